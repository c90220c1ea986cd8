_base_ = './mask-rcnn_mobilenet-v2.py'

# Lists are replaced whole: the neck once more, narrower.
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[16, 16, 48, 1280],
            out_channels=64,
            norm_cfg=_base_.norm_cfg,
            num_outs=5,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[64] * 5,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ]
)
