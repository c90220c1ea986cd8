# ModelNet40, the first 1024 points of each cloud; HDF5 or another layout.
# What `tools/train.py CONFIG --demo` trains on instead:
demo_data = '_base_/demo/modelnet40.py'

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/modelnet40_ply_hdf5_2048/',
        split='train',
        num_points=1024,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.ModelNet',
        data_root='data/modelnet40_ply_hdf5_2048/',
        split='test',
        num_points=1024,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmea.PointAccuracyMetric')
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmea.CloudPictureHook')]
