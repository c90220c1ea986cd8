# A smaller T2T-ViT, and a neck and a head to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        img_size=96,
        embed_dims=96,
        num_layers=4,
        causal_layers=2,
        feedforward_channels=192,
        t2t_cfg=dict(token_dims=32),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=96, out_channels=64, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=64, norm_cfg=norm_cfg
    ),
)
