_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# Stand-alone attention in place of the 3x3 convolutions of C4 and C5; the rest
# of the backbone starts from the weights of ResNet-50. The statistics behind
# the attention are its own: all norms learn.
model = dict(
    backbone=dict(
        type='mmea.LocalAttentionResNet',
        base='ResNet',
        from_stage='C4',
        attention=dict(type='mmea.StandAloneAttention2d'),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
    )
)
