_base_ = './cascade-rcnn.py'

model = dict(
    roi_head=dict(
        mask_roi_extractor=dict(out_channels=64, finest_scale=14),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rcnn=[
            dict(stage, mask_size=28) for stage in _base_.model.train_cfg.rcnn
        ]
    ),
)
