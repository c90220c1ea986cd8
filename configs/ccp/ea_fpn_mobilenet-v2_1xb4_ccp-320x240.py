_base_ = [
    '../_base_/models/fpn_mobilenet-v2_xavier.py',
    '../_base_/datasets/ccp_320x240.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
]
randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(320, 240)), decode_head=dict(num_classes=12)
)
