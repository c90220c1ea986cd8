# Pictures of one object that mmea renders, six classes, in the folders of
# ImageNet, and the short schedule of the GANs' demo. `max_iters` is the one
# number to change.
max_iters = 600

demo_scenes = dict(
    layout='imagenet', num_train=600, num_val=300, size=(32, 32), seed=0
)
train_set = dict(
    _delete_=True,
    type='mmea.ClassFolders',
    data_root='data/demo/imagenet-32',
    split='train',
    img_size=32,
    classes=('bird', 'sheep', 'airplane', 'bus', 'boat', 'car'),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**train_set, flip=True),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(train_set, split='val'),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    extractor=dict(dataset=train_set, max_iters=200, batch_size=32)
)
test_evaluator = val_evaluator

randomness = dict(seed=0)
optim_wrapper = dict(
    generator=dict(optimizer=dict(lr=1e-3, betas=(0.0, 0.9))),
    discriminator=dict(optimizer=dict(lr=1e-3, betas=(0.0, 0.9))),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_iters // 2)
)
custom_hooks = [
    dict(type='mmea.FirstValidationHook'),
    dict(type='mmea.GANSampleHook', interval=max_iters // 4),
]
