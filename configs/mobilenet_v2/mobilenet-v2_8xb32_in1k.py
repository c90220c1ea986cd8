# The counterpart of the ea_ config, without attention.
_base_ = [
    '../_base_/models/mobilenet-v2_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_sgd_300e_step.py',
    '../_base_/default_runtime_cls.py',
]
