_base_ = [
    '../_base_/models/fpn_mobilenet-v2_xavier.py',
    '../_base_/datasets/ccp_320x240.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
]
# External attention on the levels of the pyramid, at strides 4, 8, 16 and 32,
# in place of the merged map. On that of stride 8 alone:
# --cfg-options model.neck.1.levels=[1]
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(320, 240)),
    neck=[
        {{_base_.model.neck}},
        dict(
            type='mmea.EANeck',
            in_channels=[128, 128, 128, 128],
            attention={{_base_.model.decode_head.attention}},
        ),
    ],
    decode_head=dict(attention=None, num_classes=12),
)
