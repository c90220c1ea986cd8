_base_ = [
    '../_base_/models/fpn_r18-w32.py',
    '../_base_/datasets/nwpu_vhr10_128x128.py',
    '../_base_/schedules/adamw_short.py',
    '../_base_/default_runtime.py',
]
# Small enough to train it with every attention of the family:
# mmea compare. The merged map has 32 x 32 tokens.
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    decode_head=dict(
        type='mmea.EAFPNHead',
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=dict(type='BN', requires_grad=True),
            act_cfg=dict(type='ReLU'),
        ),
        num_classes=11,
    ),
)
