# A light backbone of the same kind, and two heads to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        embed_dims=32,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 4, 8),
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256], channels=64, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(in_channels=128, channels=64, norm_cfg=norm_cfg),
)
