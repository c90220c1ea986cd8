_base_ = './mask-rcnn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=0.5,
        # Nothing is pretrained: the statistics are trained too.
        norm_cfg=_base_.norm_cfg,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[16, 16, 48, 1280]),
)
