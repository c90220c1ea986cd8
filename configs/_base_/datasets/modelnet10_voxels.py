# Chairs and monitors of ModelNet10, points in their voxels; every fifth for
# validation. benchmarks/point_clouds.py writes them.
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/modelnet10_voxels',
        split='train',
        num_points=512,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/modelnet10_voxels',
        split='test',
        num_points=512,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmea.PointAccuracyMetric', guess=True)
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmea.CloudPictureHook')]
