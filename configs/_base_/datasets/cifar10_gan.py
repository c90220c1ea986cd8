# The original files of the Python version. A batch is for all steps of the
# discriminator in an iteration.
train_dataloader = dict(
    batch_size=320,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmea.CIFAR10',
        data_root='data/cifar-10-batches-py',
        split='train',
        flip=True,
    ),
)
