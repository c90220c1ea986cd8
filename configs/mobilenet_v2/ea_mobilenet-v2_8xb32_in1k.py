_base_ = [
    '../_base_/models/mobilenet-v2_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_sgd_300e_step.py',
    '../_base_/default_runtime_cls.py',
]
# One block of external attention on the last map, before it is averaged.
model = dict(
    neck=[
        dict(
            type='mmea.EANeck',
            in_channels=[1280],
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
        dict(type='GlobalAveragePooling'),
    ]
)
