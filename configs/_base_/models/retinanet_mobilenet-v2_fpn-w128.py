_base_ = './retinanet_mobilenet-v2_fpn.py'

# Half as wide and with half as many convs, for images of some 320 px: small
# enough for a CPU, less than 4 M parameters. Set num_classes of the head.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    # Data far from ImageNet: their own statistics.
    backbone=dict(norm_eval=False),
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[24, 32, 96, 1280],
        out_channels=128,
        start_level=1,
        norm_cfg=norm_cfg,
        num_outs=3,
    ),
    bbox_head=dict(
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        # The levels share the head, and would share BN's running averages.
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        # Squares of 16 to 102 px.
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32]),
    ),
)
