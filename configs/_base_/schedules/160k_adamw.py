_base_ = './160k.py'

# The schedule of Swin transformers: AdamW, no decay of norms and position
# tables, a warm-up and a linear fall.
max_iters = 160_000
warmup = 1500

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, begin=0, end=warmup, by_epoch=False
    ),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=1.0,
        begin=warmup,
        end=max_iters,
        by_epoch=False,
    ),
]
