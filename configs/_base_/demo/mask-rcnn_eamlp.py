# A smaller EAMLP, a neck and heads to fit, and smaller anchors and fewer
# proposals for smaller images.
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=4,
            feedforward_channels=192,
        ),
        img_size=128,
        # Tokens as published take longer to learn (docs/results.md).
        stem='convolutions',
        token_dims=32,
        # For so narrow a net N(0, 0.02^2), as published, is too small.
        init_cfg=dict(
            _delete_=True,
            type='Kaiming',
            layer='Linear',
            mode='fan_in',
            nonlinearity='linear',
        ),
        drop_path_rate=0.0,
    ),
    neck=dict(
        in_channels=96,
        out_channels=64,
        norm_cfg=dict(type='GN', num_groups=8),
    ),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=14),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64, finest_scale=14),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)
