_base_ = './imagenet_sgd_100e.py'

# A longer one for ResNets: SGD with Nesterov momentum, a cosine after a
# warm-up, no weight decay on norms; for 8 GPUs with 32 images each.
max_epochs = 300
warmup = 5

optim_wrapper = dict(
    optimizer=dict(nesterov=True), paramwise_cfg=dict(norm_decay_mult=0.0)
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        begin=0,
        end=warmup,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        T_max=max_epochs - warmup,
        begin=warmup,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
