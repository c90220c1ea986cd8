_base_ = './mask-rcnn.py'

# A light backbone of the same kind.
model = dict(
    backbone=dict(
        _delete_=True,
        base_channels=32,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None,
    ),
)
