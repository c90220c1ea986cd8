# A smaller EAMLP and a head to fit; images are not mixed.
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
        token_dims=32,
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=96),
    train_cfg=None,
)
