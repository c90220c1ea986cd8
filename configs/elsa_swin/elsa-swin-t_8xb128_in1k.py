_base_ = [
    '../_base_/models/elsa-swin_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]
train_dataloader = dict(batch_size=128)
