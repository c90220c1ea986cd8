_base_ = [
    '../_base_/models/resnet50_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_sgd_100e.py',
    '../_base_/default_runtime_cls.py',
]
# One block of external attention behind stage C4.
model = dict(
    backbone=dict(
        type='mmea.StageAttentionResNet',
        base='ResNet',
        after=['C4'],
        attention=dict(type='mmea.ExternalAttention2d'),
    )
)
