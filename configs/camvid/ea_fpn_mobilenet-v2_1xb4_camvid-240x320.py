_base_ = [
    '../_base_/models/fpn_mobilenet-v2_xavier.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
]
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(240, 320), seg_pad_val=11),
    decode_head=dict(num_classes=11, ignore_index=11),
)
