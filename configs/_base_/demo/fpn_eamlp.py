# A smaller EAMLP, and a neck and a head to fit.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=4,
            feedforward_channels=192,
        ),
        img_size=96,
        # Tokens as published take longer to learn (docs/results.md).
        stem='convolutions',
        token_dims=32,
        # For so narrow a net N(0, 0.02^2), as published, is too small.
        init_cfg=dict(
            _delete_=True,
            type='Kaiming',
            layer='Linear',
            mode='fan_in',
            nonlinearity='linear',
        ),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=96, out_channels=64, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=64, norm_cfg=norm_cfg
    ),
)
