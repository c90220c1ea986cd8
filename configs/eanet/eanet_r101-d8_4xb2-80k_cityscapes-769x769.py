_base_ = [
    '../_base_/models/eanet_r50-d8.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/schedules/80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(769, 769)),
    backbone=dict(
        depth=101,
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/pretrain/third_party/'
            'resnet101_v1c-e67eebb6.pth'
        ),
    ),
    decode_head=dict(align_corners=True),
    auxiliary_head=dict(align_corners=True),
    test_cfg=dict(mode='slide', crop_size=(769, 769), stride=(513, 513)),
)
