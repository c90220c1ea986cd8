# The short schedule of every demo. `max_iters` is the one number to change.
max_iters = 400
warmup = 40

randomness = dict(seed=0)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, begin=0, end=warmup, by_epoch=False
    ),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=0.9,
        begin=warmup,
        end=max_iters,
        by_epoch=False,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_iters // 2)
)
# The scenes show few of the classes: count those that occur.
val_evaluator = dict(type='mmea.PresentClassIoUMetric')
test_evaluator = val_evaluator
custom_hooks = [
    dict(type='mmea.SegLabelCheckHook'),
    dict(type='mmea.SegPictureHook', num_images=4),
]
