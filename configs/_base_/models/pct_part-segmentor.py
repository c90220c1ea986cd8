# PCT's part segmentor: all points, no neighbours. Points are not dropped:
# their labels would go too.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/pct_part-segmentor.py'

model = dict(
    type='mmea.PointPartSegmentor',
    backbone=dict(
        type='mmea.PCT',
        stem_channels=128,
        num_points=(),
        num_convs=0,
        position=False,
    ),
    num_parts=50,
    data_preprocessor=dict(
        type='mmea.PointCloudDataPreprocessor',
        scale=(2 / 3, 3 / 2),
        shift=0.2,
        shuffle=True,
    ),
)
