_base_ = [
    '../_base_/models/halonet_cls.py',
    '../_base_/datasets/imagenet_randaug_320.py',
    '../_base_/schedules/imagenet_sgd_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(arch='H3'), head=dict(in_channels=1024))
train_dataloader = dict(batch_size=32)
