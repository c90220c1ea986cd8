# Semantic FPN over MobileNetV2, with the attention on the merged map at stride
# 4. Small enough for a CPU: less than 4 M parameters.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/fpn_mobilenet-v2.py'

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        # Padding stays out of the attention of a net that has one.
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
        norm_cfg=norm_cfg,
        # torchvision's, trained on ImageNet; a file does as well. To train
        # without: --cfg-options model.backbone.init_cfg=None
        init_cfg=dict(
            type='mmea.Pretrained',
            checkpoint='https://download.pytorch.org/models/'
            'mobilenet_v2-b0353104.pth',
        ),
    ),
    neck=dict(
        type='FPN', in_channels=[24, 32, 96, 320], out_channels=128, num_outs=4
    ),
    decode_head=dict(
        type='mmea.EAFPNHead',
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=norm_cfg,
            act_cfg=dict(type='ReLU'),
        ),
        in_channels=[128, 128, 128, 128],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
