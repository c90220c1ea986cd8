_base_ = [
    '../_base_/models/volo_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_310e_volo.py',
    '../_base_/default_runtime_cls.py',
]
# Rate and stochastic depth are those of D3: none are published in the code.
model = dict(
    backbone=dict(arch='d4', drop_path_rate=0.5),
    head=dict(in_channels=768),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_dataloader = dict(batch_size=128)
