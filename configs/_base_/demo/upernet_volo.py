# A smaller VOLO, and two heads to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            num_layers=(2, 1, 2, 1),
            embed_dims=(48, 96),
            num_heads=(3, 6),
            feedforward_channels=(144, 288),
            stem_channels=16,
        ),
        img_size=96,
        drop_path_rate=0.0,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        in_channels=[48, 96, 96, 96], channels=64, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(in_channels=96, channels=64, norm_cfg=norm_cfg),
)
