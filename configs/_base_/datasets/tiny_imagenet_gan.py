# 200 folders, each with a folder of 500 images of 64 x 64.
train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmea.ClassFolders',
        data_root='data/tiny-imagenet-200/train',
        img_size=64,
        flip=True,
    ),
)
