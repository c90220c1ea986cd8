_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn-w128.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/adamw_short_detection.py',
    '../_base_/default_runtime_det.py',
]
# The counterpart of the ea_ config, without attention. The seed fixes the
# order of the images. The two nets start from different weights behind the
# backbone all the same: they draw a different number of values.
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
model = dict(bbox_head=dict(num_classes=3))
