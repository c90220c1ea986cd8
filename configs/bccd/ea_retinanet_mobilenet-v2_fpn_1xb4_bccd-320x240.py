_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn-w128.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/adamw_short_detection.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention behind the pyramid, for all of its levels.
# The seed fixes the order of the images. This net and the one without
# attention start from different weights behind the backbone all the same:
# they draw a different number of values.
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[24, 32, 96, 1280],
            out_channels=128,
            start_level=1,
            norm_cfg=dict(type='BN', requires_grad=True),
            num_outs=3,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[128] * 3,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ],
    bbox_head=dict(num_classes=3),
)
