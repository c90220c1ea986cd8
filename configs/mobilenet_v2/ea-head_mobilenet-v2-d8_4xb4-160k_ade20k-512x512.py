_base_ = [
    '../_base_/models/ea-head_mobilenet-v2-d8.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
