# A light backbone without pretrained weights, and a neck and a head to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(base_channels=32, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=64, norm_cfg=norm_cfg
    ),
)
