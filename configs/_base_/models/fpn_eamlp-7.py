# Semantic FPN over EAMLP-7, whose one map becomes a pyramid.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/fpn_eamlp.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmea.EAMLP',
        arch='7',
        # Of the position embedding, which is resized to the image at hand.
        img_size=224,
        drop_path_rate=0.1,
        # From scratch; see configs/eamlp for converted weights.
        init_cfg=None,
    ),
    neck=dict(
        type='mmea.SimpleFeaturePyramid',
        in_channels=256,
        out_channels=256,
        strides=[4, 8, 16, 32],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FPNHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
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
