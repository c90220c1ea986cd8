# The schedule published with EAMLP, in the args.yaml of EAMLP-7 at 384: AdamW,
# 5 epochs of warm-up from 1e-6, a cosine down to 1e-5 at epoch 300, 10 epochs
# there, an average of the weights with decay 0.99996, seed 42. The file gives
# 64 images for each GPU; 8 GPUs are an assumption.
max_epochs = 310
cooldown = 10
warmup = 5

randomness = dict(seed=42)
optim_wrapper = dict(
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
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        begin=0,
        end=warmup,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        T_max=max_epochs - cooldown - warmup,
        begin=warmup,
        end=max_epochs - cooldown,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# With another total batch: --cfg-options auto_scale_lr.enable=True
auto_scale_lr = dict(enable=False, base_batch_size=512)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
)
# `momentum` is the share of the new weights.
custom_hooks = [dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')]
