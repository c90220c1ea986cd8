_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/default_runtime_det.py',
]
# A Swin-T with ELSA in its first three stages, without pretrained weights.
demo_model = '_base_/demo/mask-rcnn_elsa-swin.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.ELSASwin',
        base='SwinTransformer',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
