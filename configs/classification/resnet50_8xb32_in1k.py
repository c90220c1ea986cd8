# The counterpart of the ea_ config, without attention.
_base_ = [
    '../_base_/models/resnet50_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_sgd_100e.py',
    '../_base_/default_runtime_cls.py',
]
