_base_ = [
    '../_base_/models/volo_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_310e_volo.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(arch='d2', drop_path_rate=0.2),
    head=dict(in_channels=512),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_dataloader = dict(batch_size=128)
