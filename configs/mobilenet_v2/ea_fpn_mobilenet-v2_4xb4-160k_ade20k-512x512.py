_base_ = [
    '../_base_/models/fpn_mobilenet-v2.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k.py',
    '../_base_/default_runtime.py',
]
# 4 GPUs x 4 images: statistics over all of them.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(
        norm_cfg=norm_cfg,
        attention=dict(norm_cfg=norm_cfg),
        num_classes=150,
    ),
)
