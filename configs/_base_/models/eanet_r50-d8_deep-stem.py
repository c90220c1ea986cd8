# EANet as its authors published it for PASCAL VOC: a stem of 64, 64 and 128
# channels, dilations 2, 8 and 16 in the last stage, no auxiliary head.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/eanet_deep-stem.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='mmea.SegDataPreProcessor',
        padding_mask=False,  # as published
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=50,
        stem_channels=128,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        multi_grid=(2, 8, 16),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        # The authors start from ImageNet weights made for this stem
        # (resnet50-ebb6acbb, resnet101-2a57e44d of the PyTorch-Encoding
        # family), for which there is no address to rely on, and weights of
        # the plain ResNet-v1c do not fit the stem. Without such weights the
        # net trains from scratch, far from the reported result. Give a file,
        # its names in mmseg's form, by
        # init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=FILE)
        init_cfg=None,
    ),
    decode_head=dict(
        type='mmea.EAHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        mid_channels=256,
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=norm_cfg,
            act_cfg=dict(type='ReLU'),
            zero_init=False,
        ),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=True,
        # The published loss divides by all pixels of the crop, ignored ones
        # and padding included: avg_non_ignore=False.
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            avg_non_ignore=False,
            loss_weight=1.0,
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
