# A light backbone of the same kind and a head to fit; images are not mixed.
model = dict(
    backbone=dict(
        arch='tiny',
        embed_dims=32,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 4, 8),
        img_size=96,
        # Its last map is smaller than a window.
        pad_small_map=True,
        drop_path_rate=0.0,
        # For so narrow a net N(0, 0.02^2), as published, is too small.
        init_cfg=dict(
            type='Kaiming',
            layer='Linear',
            mode='fan_in',
            nonlinearity='linear',
        ),
    ),
    head=dict(
        in_channels=256,
        init_cfg=dict(
            _delete_=True, type='TruncNormal', layer='Linear', std=0.06
        ),
    ),
    train_cfg=None,
)
