# A smaller VOLO and a head to fit; images are not mixed.
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
    ),
    head=dict(in_channels=96),
    train_cfg=None,
)
