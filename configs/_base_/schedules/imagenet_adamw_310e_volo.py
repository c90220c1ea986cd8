_base_ = './imagenet_adamw_310e.py'

# The schedule of VOLO-D1, from the authors' README and the defaults of their
# script: AdamW, 20 epochs of warm-up, a cosine down to 1e-5 at epoch 300, 10
# epochs there, seed 42, for 8 GPUs with 128 images each. No average of the
# weights, no limit to the gradients.
warmup = 20

optim_wrapper = dict(
    optimizer=dict(lr=1.6e-3, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.0)}),
)
linear, cosine = _base_.param_scheduler
param_scheduler = [
    dict(linear, end=warmup),
    dict(cosine, T_max=cosine['end'] - warmup, begin=warmup),
]
del linear, cosine
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = []
