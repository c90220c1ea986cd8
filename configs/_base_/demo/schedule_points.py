_base_ = './schedule_cls.py'

# The short schedule of every demo on point clouds. `max_epochs` is the one
# number to change.
max_epochs = 10

warmup, cosine = _base_.param_scheduler
param_scheduler = [
    warmup,
    dict(cosine, end=max_epochs, T_max=max_epochs - 2),
]
del warmup, cosine
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs // 2))
