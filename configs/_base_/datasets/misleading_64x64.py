# Rendered pictures of three classes, each of which goes with one ground in 95
# of 100 training pictures and with the other two in validation. No files.
train_pipeline = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmea.MisleadingScenes',
        split='train',
        number=600,
        size=(64, 64),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmea.MisleadingScenes',
        split='val',
        number=300,
        size=(64, 64),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=1)
test_evaluator = val_evaluator
