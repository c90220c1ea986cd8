# The original files of the Python version. A batch is for all steps of the
# discriminator in an iteration. Made images are compared with those of the
# test set by a network that is trained on those of the training set.
# What `mmea train CONFIG --demo` trains on instead:
demo_data = '_base_/demo/gan.py'

train_set = dict(
    type='mmea.CIFAR10', data_root='data/cifar-10-batches-py', split='train'
)
train_dataloader = dict(
    batch_size=320,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**train_set, flip=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.CIFAR10', data_root='data/cifar-10-batches-py', split='test'
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmea.FrechetDistance',
    extractor=dict(type='mmea.TrainedHereExtractor', dataset=train_set),
)
test_evaluator = val_evaluator
