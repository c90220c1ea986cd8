_base_ = [
    '../_base_/models/halonet_cls.py',
    '../_base_/datasets/imagenet_randaug_384.py',
    '../_base_/schedules/imagenet_sgd_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(arch='H4'), head=dict(in_channels=1280))
train_dataloader = dict(batch_size=32)
