_base_ = [
    '../_base_/models/upernet_elsa-swin-t.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k_adamw.py',
    '../_base_/default_runtime.py',
]
# UPerNet over the four stages of VOLO-D1, one map of stride 8 and three of 16.
# There are no pretrained weights.
demo_model = '_base_/demo/upernet_volo.py'
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='mmea.VOLO',
        arch='d1',
        attention=dict(type='mmea.OutlookAttention2d'),
        # Of the position embedding, which is resized to the image at hand.
        img_size=224,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    decode_head=dict(in_channels=[192, 384, 384, 384], num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.0)})
)
