# 200 folders, each with a folder of 500 images of 64 x 64. Made images are
# compared with 25 of each class by a network that is trained on all.
# What `mmea train CONFIG --demo` trains on instead:
demo_data = '_base_/demo/gan.py'

train_set = dict(
    type='mmea.ClassFolders',
    data_root='data/tiny-imagenet-200/train',
    img_size=64,
)
train_dataloader = dict(
    batch_size=256,
    num_workers=4,
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
    dataset=dict(**train_set, per_class=25),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmea.FrechetDistance',
    extractor=dict(
        type='mmea.TrainedHereExtractor', dataset=train_set, max_iters=3000
    ),
)
test_evaluator = val_evaluator
