_base_ = [
    '../_base_/models/volo_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_310e_volo.py',
    '../_base_/default_runtime_cls.py',
]
# Rate and stochastic depth are a choice: none are published in the code.
model = dict(
    backbone=dict(arch='d5', drop_path_rate=0.75),
    head=dict(in_channels=768),
)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
train_dataloader = dict(batch_size=128)
