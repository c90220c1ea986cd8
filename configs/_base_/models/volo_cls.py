# VOLO-D1 that classifies by its class token and its other tokens, with mixed
# images and smoothed labels.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/volo_cls.py'

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmea.VOLO',
        arch='d1',
        attention=dict(type='mmea.OutlookAttention2d'),
        img_size=224,
        drop_path_rate=0.1,
        out_type='raw',
    ),
    head=dict(
        type='mmea.VOLOHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'
        ),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    # In the place of MixToken, which mixes tokens of two images likewise.
    train_cfg=dict(augments=[dict(type='CutMix', alpha=1.0)]),
)
