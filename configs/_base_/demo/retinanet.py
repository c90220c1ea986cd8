# A light backbone without pretrained weights, a neck and a head to fit, and
# smaller anchors for smaller images.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        depth=18,
        stem_channels=32,
        base_channels=32,
        # Nothing is pretrained: all is trained, the statistics too.
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=norm_cfg
    ),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # The levels share the head, and would share BN's running averages.
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        anchor_generator=dict(octave_base_scale=2),
    ),
)
