# The head of EANet, at half its width, over MobileNetV2 at output stride 8,
# with an FCN head on stage 5 as a second loss.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/ea-head_mobilenet-v2.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        # Padding stays out of the attention.
        type='mmea.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        # mmsegmentation's for output stride 8.
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        norm_cfg=norm_cfg,
        # torchvision's, trained on ImageNet; a file does as well. To train
        # without: --cfg-options model.backbone.init_cfg=None
        init_cfg=dict(
            type='mmea.Pretrained',
            checkpoint='https://download.pytorch.org/models/'
            'mobilenet_v2-b0353104.pth',
        ),
    ),
    decode_head=dict(
        type='mmea.EAHead',
        in_channels=320,
        in_index=3,
        channels=256,
        mid_channels=128,
        # The block as published: norm and ReLU in it, no zero start.
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=norm_cfg,
            act_cfg=dict(type='ReLU'),
            zero_init=False,
        ),
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=96,
        in_index=2,
        channels=96,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
