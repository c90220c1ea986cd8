_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn-w128-p6.py',
    '../_base_/datasets/nwpu_vhr10_detection_320x320.py',
    '../_base_/schedules/adamw_600_detection.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention behind the pyramid, for all of its levels.
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
model = dict(
    neck=[
        _base_.model.neck,
        dict(
            type='mmea.EANeck',
            in_channels=[128] * 4,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ],
    bbox_head=dict(num_classes=10),
)
