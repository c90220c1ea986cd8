_base_ = [
    '../_base_/models/resnet50_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_sgd_100e.py',
    '../_base_/default_runtime_cls.py',
]
# Stand-alone attention in place of all 3x3 convolutions.
model = dict(
    backbone=dict(
        type='mmea.LocalAttentionResNet',
        base='ResNet',
        depth=26,
        from_stage='C2',
        attention=dict(type='mmea.StandAloneAttention2d'),
    )
)
