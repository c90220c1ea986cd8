_base_ = [
    '../_base_/models/eamlp_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_310e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(arch='19'), head=dict(in_channels=448))
