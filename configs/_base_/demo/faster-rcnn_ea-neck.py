_base_ = './faster-rcnn.py'

# Lists are replaced whole: the neck once more, narrower.
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[32, 64, 128, 256],
            out_channels=64,
            norm_cfg=_base_.norm_cfg,
            num_outs=5,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[64] * 5,
            share=False,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ]
)
