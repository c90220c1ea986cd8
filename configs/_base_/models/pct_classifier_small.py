# A quarter of PCT's width, for clouds of 512 points on a CPU.
model = dict(
    type='mmea.PointCloudClassifier',
    backbone=dict(
        type='mmea.PCT',
        stem_channels=16,
        num_points=(128, 64),
        num_neighbours=16,
        out_channels=256,
    ),
    num_classes=40,
    in_channels=256,
    hidden_channels=(128, 64),
    data_preprocessor=dict(
        type='mmea.PointCloudDataPreprocessor',
        dropout=0.875,
        scale=(2 / 3, 3 / 2),
        shift=0.2,
        shuffle=True,
    ),
)
