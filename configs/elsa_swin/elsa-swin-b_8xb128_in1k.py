_base_ = [
    '../_base_/models/elsa-swin_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1024)
)
train_dataloader = dict(batch_size=128)
# The authors average the weights of this one, with decay 0.99992.
custom_hooks = [dict(type='EMAHook', momentum=8e-5, priority='ABOVE_NORMAL')]
