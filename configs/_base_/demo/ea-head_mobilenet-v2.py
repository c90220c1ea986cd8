# A light backbone without pretrained weights, and heads to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(widen_factor=0.5, norm_cfg=norm_cfg, init_cfg=None),
    decode_head=dict(
        in_channels=160,
        channels=128,
        mid_channels=64,
        norm_cfg=norm_cfg,
        attention=dict(norm_cfg=norm_cfg),
    ),
    auxiliary_head=dict(in_channels=48, channels=48, norm_cfg=norm_cfg),
)
