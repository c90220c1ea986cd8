_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# The counterpart of the ea_ config: a non-local block in its place.
model = dict(
    backbone=dict(
        type='mmea.StageAttentionResNet',
        base='ResNet',
        after=['C4'],
        attention=dict(type='mmea.NonLocal2d'),
    )
)
# RetinaNet learns at half the rate of the others.
optim_wrapper = dict(optimizer=dict(lr=0.01))
