_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# HaloNet H1, convolution in C2 and C3, halo attention in C4 and C5. There are
# no pretrained weights.
demo_model = '_base_/demo/mask-rcnn_halonet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.HaloNet',
        arch='H1',
        from_stage='C4',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
