# A light backbone without pretrained weights, and two heads to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        depth=18,
        stem_channels=32,
        base_channels=32,
        norm_cfg=norm_cfg,
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=256,
        channels=128,
        mid_channels=64,
        norm_cfg=norm_cfg,
        attention=dict(norm_cfg=norm_cfg),
    ),
    auxiliary_head=dict(in_channels=128, channels=64, norm_cfg=norm_cfg),
    test_cfg=dict(_delete_=True, mode='whole'),
)
