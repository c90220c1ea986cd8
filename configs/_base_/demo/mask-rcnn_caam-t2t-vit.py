_base_ = './mask-rcnn_eamlp.py'

# A smaller T2T-ViT; neck and heads as EAMLP's.
model = dict(
    backbone=dict(
        _delete_=True,
        img_size=128,
        embed_dims=96,
        num_layers=4,
        causal_layers=2,
        feedforward_channels=192,
        t2t_cfg=dict(token_dims=32),
        drop_path_rate=0.0,
        # For so narrow a net N(0, 0.02^2), as published, is too small.
        init_cfg=dict(
            type='Kaiming',
            layer='Linear',
            mode='fan_in',
            nonlinearity='linear',
        ),
    ),
)
