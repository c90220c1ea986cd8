_base_ = [
    '../_base_/models/mask-rcnn_r18-w32_fpn.py',
    '../_base_/datasets/nwpu_vhr10_detection.py',
    '../_base_/schedules/adamw_short_detection.py',
    '../_base_/default_runtime_det.py',
]
# The counterpart of mask-rcnn_r18-w32_fpn_nwpu-256x256.py,
# with attention. The seed fixes the order of the images. The two nets start
# from different weights all the same: they draw a different number of values.
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
model = dict(
    backbone=dict(
        type='mmea.StageAttentionResNet',
        base='ResNet',
        after=['C4'],
        attention=dict(type='mmea.ExternalAttention2d'),
    ),
    roi_head=dict(
        bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)
    ),
)
