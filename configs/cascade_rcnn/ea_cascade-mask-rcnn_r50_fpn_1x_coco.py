_base_ = [
    '../_base_/models/cascade-mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention behind stage C4 of the backbone.
model = dict(
    backbone=dict(
        type='mmea.StageAttentionResNet',
        base='ResNet',
        after=['C4'],
        attention=dict(type='mmea.ExternalAttention2d'),
    )
)
