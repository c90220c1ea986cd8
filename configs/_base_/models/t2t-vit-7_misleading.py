# T2T-ViT-7 that classifies three classes, from scratch.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    # Without a causal layer: a plain T2T-ViT-7.
    backbone=dict(type='mmea.CaaMT2TViT', img_size=64, causal_layers=0),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=3,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)
