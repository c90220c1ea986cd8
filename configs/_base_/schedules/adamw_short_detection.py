# Sized for a CPU. `max_iters` is the one number to change.
max_iters = 2000
warmup = 100
interval = max_iters // 4

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    # The first steps from scratch have large gradients.
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, begin=0, end=warmup, by_epoch=False
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        T_max=max_iters - warmup,
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
    visualization=dict(type='DetVisualizationHook'),
)
