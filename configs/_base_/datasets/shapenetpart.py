# ShapeNet-part, 2048 points of each cloud; HDF5 or text.
# What `tools/train.py CONFIG --demo` trains on instead:
demo_data = '_base_/demo/shapenetpart.py'

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmea.ShapeNetPart',
        data_root='data/shapenet_part_seg_hdf5_data/',
        split='trainval',
        num_points=2048,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.ShapeNetPart',
        data_root='data/shapenet_part_seg_hdf5_data/',
        split='test',
        num_points=2048,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmea.PartIoUMetric')
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmea.CloudPictureHook', up='y')]
