_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/default_runtime_det.py',
]
# VOLO-D1 has maps of the strides at which RetinaNet begins, 8 and 16. There
# are no pretrained weights.
demo_model = '_base_/demo/retinanet_volo.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.VOLO',
        arch='d1',
        attention=dict(type='mmea.OutlookAttention2d'),
        # Of the position embedding, which is resized to the image at hand.
        img_size=224,
        drop_path_rate=0.1,
        out_indices=(0, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=dict(in_channels=[192, 384], start_level=0),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.0)})
)
