_base_ = './imagenet_adamw_300e.py'

# The schedule published with EAMLP, in the args.yaml of EAMLP-7 at 384: AdamW,
# 5 epochs of warm-up from 1e-6, a cosine down to 1e-5 at epoch 300, 10 epochs
# there, an average of the weights with decay 0.99996, seed 42. The file gives
# 64 images for each GPU; 8 GPUs are an assumption.
max_epochs = 310
cooldown = 10
warmup = 5

randomness = dict(seed=42)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.03),
    # timm's rule: no decay on biases, on other vectors and on the token.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'cls_token': dict(decay_mult=0.0)},
    ),
)
# timm changes the rate once in an epoch, this at each iteration; after the
# last scheduler it stays.
linear, cosine = _base_.param_scheduler
until = max_epochs - cooldown
param_scheduler = [
    dict(linear, end=warmup),
    dict(cosine, T_max=until - warmup, begin=warmup, end=until),
]
del linear, cosine, until
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=512)
# `momentum` is the share of the new weights.
custom_hooks = [dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')]
