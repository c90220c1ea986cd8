# PCT's classifier with position embedding, and PCT_Pytorch's augmentation.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/pct_classifier.py'

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
