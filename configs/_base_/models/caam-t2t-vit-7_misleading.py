# CaaM with a T2T-ViT-7 for three classes, from scratch.
model = dict(
    type='mmea.CaaMClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmea.CaaMT2TViT', img_size=64, causal_layers=4, multi=True
    ),
    num_classes=3,
    in_channels=256,
    num_envs=4,
    # Published for the 10 classes of NICO: 5e4. See the ResNet's.
    penalty_weight=4.5e3,
)

# As the ResNet's.
custom_hooks = [dict(type='mmea.CaaMPartitionHook', interval=6)]
