_base_ = [
    '../_base_/models/eanet_r50-d8_deep-stem.py',
    '../_base_/datasets/pascal_voc12_aug_513x513.py',
    '../_base_/schedules/45k_voc12.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=(513, 513)), backbone=dict(depth=101))
