_base_ = [
    '../_base_/models/fpn_mobilenet-v2_xavier.py',
    '../_base_/datasets/ccp_320x240.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
]
# External attention on the levels of the pyramid, at strides 4, 8, 16 and 32,
# in place of the merged map. On that of stride 8 alone:
# --cfg-options model.neck.1.levels=[1]
# No ReLU behind it, unlike in the head: the levels have both signs.
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(320, 240)),
    neck=[
        {{_base_.model.neck}},
        dict(
            type='mmea.EANeck',
            in_channels=[128, 128, 128, 128],
            attention=dict(
                type='mmea.ExternalAttention2d',
                norm_cfg=dict(type='BN', requires_grad=True),
            ),
        ),
    ],
    decode_head=dict(attention=None, num_classes=12),
)
