_base_ = [
    '../_base_/models/fpn_r50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k.py',
    '../_base_/default_runtime.py',
]
# Stand-alone attention in place of the 3x3 convolutions of C4 and C5; the rest
# of the backbone starts from the weights of ResNet-50.
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        type='mmea.LocalAttentionResNet',
        base='ResNet',
        from_stage='C4',
        attention=dict(type='mmea.StandAloneAttention2d'),
    ),
    decode_head=dict(num_classes=150),
)
