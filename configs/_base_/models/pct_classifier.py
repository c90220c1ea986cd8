# PCT's classifier with position embedding, and PCT_Pytorch's augmentation.
model = dict(
    type='mmea.PointCloudClassifier',
    backbone=dict(type='mmea.PCT'),
    num_classes=40,
    data_preprocessor=dict(
        type='mmea.PointCloudDataPreprocessor',
        dropout=0.875,
        scale=(2 / 3, 3 / 2),
        shift=0.2,
        shuffle=True,
    ),
)
