# The schedule published with EANet for PASCAL VOC: weight decay on convolution
# weights and memories, none on norm weights, and every bias (those of the
# norms too) at twice the rate without decay.
max_iters = 45_000
interval = max_iters // 9

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=9e-3, momentum=0.9, weight_decay=1e-4),
    # Not `bias_lr_mult` and `bias_decay_mult`: mmengine leaves the biases of
    # norms out of both, so they would learn at the single rate. A custom key
    # is a part of the parameter's name and wins over the other rules. Memories
    # are plain parameters, which no rule here touches: they keep the decay.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)},
    ),
    clip_grad=None,
)
param_scheduler = [
    # The authors update the rate every 10 iterations, mmengine at each.
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=0.9,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
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
