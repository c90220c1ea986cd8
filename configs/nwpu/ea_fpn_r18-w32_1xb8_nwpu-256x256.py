_base_ = [
    '../_base_/models/fpn_r18-w32.py',
    '../_base_/datasets/nwpu_vhr10_256x256.py',
    '../_base_/schedules/adamw_short.py',
    '../_base_/default_runtime.py',
]
# The counterpart of fpn_r18-w32_1xb8_nwpu-256x256.py: only the head differs.
# The seed fixes the order of the images. The two nets start from different
# weights all the same: they draw a different number of random values.
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(256, 256)),
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
