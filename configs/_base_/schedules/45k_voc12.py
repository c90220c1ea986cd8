_base_ = './160k.py'

# The schedule published with EANet for PASCAL VOC: weight decay on convolution
# weights and memories, none on norm weights, and every bias (those of the
# norms too) at twice the rate without decay.
max_iters = 45_000
interval = max_iters // 9

optim_wrapper = dict(
    optimizer=dict(lr=9e-3, weight_decay=1e-4),
    # Not `bias_lr_mult` and `bias_decay_mult`: mmengine leaves the biases of
    # norms out of both, so they would learn at the single rate. A custom key
    # is a part of the parameter's name and wins over the other rules. Memories
    # are plain parameters, which no rule here touches: they keep the decay.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)},
    ),
)
# The authors update the rate every 10 iterations, mmengine at each.
param_scheduler = [dict(_base_.param_scheduler[0], eta_min=0.0, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))
