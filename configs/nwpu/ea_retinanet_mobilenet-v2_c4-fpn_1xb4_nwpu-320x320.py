_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn-w128-p6.py',
    '../_base_/datasets/nwpu_vhr10_detection_320x320.py',
    '../_base_/schedules/adamw_600_detection.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention on C4, of stride 16, in front of the pyramid.
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
model = dict(
    neck=[
        dict(
            type='mmea.EANeck',
            in_channels=_base_.model.neck.in_channels,
            levels=[2],
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
        _base_.model.neck,
    ],
    bbox_head=dict(num_classes=10),
)
