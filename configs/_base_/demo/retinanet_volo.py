_base_ = './retinanet.py'

# A smaller VOLO, and a neck to fit.
model = dict(
    backbone=dict(
        _delete_=True,
        arch=dict(
            _delete_=True,
            num_layers=(2, 1, 2, 1),
            embed_dims=(48, 96),
            num_heads=(3, 6),
            feedforward_channels=(144, 288),
            stem_channels=16,
        ),
        img_size=128,
        drop_path_rate=0.0,
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
    neck=dict(in_channels=[48, 96]),
)
