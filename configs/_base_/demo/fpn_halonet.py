# A light backbone, and a neck and a head to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(arch='H0', base_channels=32, norm_cfg=norm_cfg),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=64, norm_cfg=norm_cfg
    ),
)
