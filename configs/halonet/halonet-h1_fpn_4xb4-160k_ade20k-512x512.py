_base_ = [
    '../_base_/models/fpn_r50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k.py',
    '../_base_/default_runtime.py',
]
# HaloNet H1, convolution in C2 and C3, halo attention in C4 and C5. There are
# no pretrained weights.
demo_model = '_base_/demo/fpn_halonet.py'
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='mmea.HaloNet',
        arch='H1',
        from_stage='C4',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
    decode_head=dict(num_classes=150),
)
