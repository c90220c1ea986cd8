_base_ = './adamw_short_detection.py'

# From a pretrained backbone, sized for one core of a CPU: some 15 minutes.
# `max_iters` is the one number to change.
max_iters = 600

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1],
        T_max=max_iters - _base_.param_scheduler[0]['end'],
        end=max_iters,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters // 2))
