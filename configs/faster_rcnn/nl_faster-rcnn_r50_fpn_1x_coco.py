_base_ = [
    '../_base_/models/faster-rcnn_r50_fpn.py',
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
