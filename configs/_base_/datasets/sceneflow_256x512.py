# Scene Flow: FlyingThings3D, Monkaa and Driving; 12 pairs on four GPUs.
train_dataloader = dict(
    batch_size=3,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmea.SceneFlow',
        data_root='data/sceneflow',
        split='train',
        crop_size=(256, 512),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.SceneFlow', data_root='data/sceneflow', split='test'
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmea.EndPointError', max_disp=192)
test_evaluator = val_evaluator
demo_data = '_base_/demo/sceneflow.py'
