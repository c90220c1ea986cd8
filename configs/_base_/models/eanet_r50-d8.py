# EANet in mmsegmentation's frame: ResNet-v1c at output stride 8, FCN head on
# stage 3 as a second loss.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/eanet.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='mmea.SegDataPreProcessor',
        padding_mask=False,  # as published
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        # That this address answers has not been checked. To train without a
        # network: --cfg-options model.backbone.init_cfg=None
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/pretrain/third_party/'
            'resnet50_v1c-2cccc1ad.pth',
        ),
    ),
    decode_head=dict(
        type='mmea.EAHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        mid_channels=256,
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
        in_channels=1024,
        in_index=2,
        channels=256,
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
