# CaaM with a ResNet-18 of half width for three classes, from scratch.
model = dict(
    type='mmea.CaaMClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmea.CaaMResNet',
        depth=18,
        base_channels=32,
        split_stage=2,
        multi=True,
    ),
    num_classes=3,
    in_channels=256,
    num_envs=4,
    # Published for 10 classes and 512 channels: 5e5. The curvature of the
    # penalty is about w / |W_e|_1^2, and |W_e|_1^2 is in proportion to
    # num_classes^2 in_channels.
    penalty_weight=2e4,
)

# First environments by chance, then new ones every 6 epochs: as often in the
# whole training as published, 40 of 200 epochs.
custom_hooks = [dict(type='mmea.CaaMPartitionHook', interval=6)]
