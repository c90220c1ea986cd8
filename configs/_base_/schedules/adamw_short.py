# Sized for a CPU. `max_iters` is the one number to change.
max_iters = 1300
warmup = 100
interval = max_iters // 4

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=None,
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
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=interval
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=interval),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
