# segmentation_models.pytorch's FPN as it is by default, trained as
# configs/camvid trains mmea's.
_base_ = '../../configs/camvid/ea_fpn_mobilenet-v2_1xb4_camvid-240x320.py'

custom_imports = dict(imports=['benchmarks.peers'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.SMPNet',
        arch='FPN',
        encoder_name='mobilenet_v2',
        classes=11,
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=dict(type='BN'),
            act_cfg=dict(type='ReLU'),
        ),
        checkpoint={{_base_.model.backbone.init_cfg.checkpoint}},
    ),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='mmea.Logits',
        in_channels=11,
        channels=11,
        num_classes=11,
        ignore_index=11,
        align_corners=False,
    ),
)
