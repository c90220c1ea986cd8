_base_ = './mask-rcnn.py'

# A light backbone of the same kind, and a neck to fit.
model = dict(
    backbone=dict(
        _delete_=True,
        arch='H0',
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
    ),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
