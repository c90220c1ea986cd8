_base_ = [
    '../_base_/models/fpn_mobilenet-v2.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k.py',
    '../_base_/default_runtime.py',
]
# The counterpart of the ea_ config, without attention: the head differs only.
demo_model = '_base_/demo/fpn_mobilenet-v2_no-attention.py'

# 4 GPUs x 4 images: statistics over all of them.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(
        # The base's has an attention to get rid of.
        _delete_=True,
        type='FPNHead',
        in_channels=[128, 128, 128, 128],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
)
