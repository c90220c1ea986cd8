_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# The counterpart of the ea_ config, without attention.
# RetinaNet learns at half the rate of the others.
optim_wrapper = dict(optimizer=dict(lr=0.01))
