_base_ = './sgd_30e.py'

# The optimiser, rate and decay of CaaM's transformer; warm-up and cosine as
# T2T-ViT's, in 30 epochs.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.03),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        begin=0,
        end=3,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        T_max=27,
        begin=3,
        end=30,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
