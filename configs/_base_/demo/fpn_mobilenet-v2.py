_base_ = './ea_fpn.py'

# A net of the same kind that a CPU trains from scratch in minutes.
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=0.5,
        out_indices=(1, 2, 4, 6),
        norm_cfg=_base_.norm_cfg,
        init_cfg=None,
    ),
    neck=dict(in_channels=[16, 16, 48, 160], out_channels=64),
)
