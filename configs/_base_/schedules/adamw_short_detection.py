_base_ = './adamw_short.py'

# Sized for a CPU. `max_iters` is the one number to change.
max_iters = 2000
interval = max_iters // 4

optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    # The first steps from scratch have large gradients.
    clip_grad=dict(_delete_=True, max_norm=10.0),
)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        T_max=max_iters - _base_.warmup,
        begin=_base_.warmup,
        end=max_iters,
        by_epoch=False,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=interval)
default_hooks = dict(
    checkpoint=dict(interval=interval),
    visualization=dict(type='DetVisualizationHook'),
)
