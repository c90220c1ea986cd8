# 40 solids, a mesh of each for training and one for validation. Points are
# drawn anew at each visit.
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/geometric_shapes/raw',
        split='train',
        num_points=512,
        seed=None,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/geometric_shapes/raw',
        split='test',
        num_points=512,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmea.PointAccuracyMetric', guess=True)
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmea.CloudPictureHook')]
