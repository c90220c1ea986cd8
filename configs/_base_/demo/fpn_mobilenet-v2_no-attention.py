_base_ = './fpn.py'

# As fpn_mobilenet-v2.py, for a head without attention.
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=0.5,
        norm_cfg=_base_.norm_cfg,
        init_cfg=None,
    ),
    neck=dict(in_channels=[16, 16, 48, 160]),
)
