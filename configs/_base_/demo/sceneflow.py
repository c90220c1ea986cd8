# Pairs of exact disparity that mmea renders, written as Scene Flow is.
# `max_epochs` is the one number to change.
max_epochs = 15

demo_scenes = dict(
    layout='sceneflow', num_train=120, num_val=20, size=(96, 160), seed=0
)
data_root = 'data/demo/sceneflow'
train_dataloader = dict(
    batch_size=3, dataset=dict(data_root=data_root, crop_size=(32, 96))
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

randomness = dict(seed=0)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        begin=1,
        end=max_epochs,
        T_max=max_epochs - 1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_epochs // 2)
)
custom_hooks = [
    dict(type='mmea.FirstValidationHook'),
    dict(type='mmea.DisparityPictureHook', num_images=4),
]
