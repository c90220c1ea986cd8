# An optimiser for each network, 100,000 steps of the generator.
optim_wrapper = dict(
    constructor='mmea.GANOptimWrapperConstructor',
    type='OptimWrapper',
    generator=dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999))),
    discriminator=dict(
        optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999))
    ),
)
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=100_000, val_interval=5000
)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        # The network it is measured by is in the name.
        save_best='gan/frechet_distance_trained_here',
        rule='less',
    ),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mmea.GANSampleHook', interval=5000)]
