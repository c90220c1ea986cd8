_base_ = [
    '../_base_/models/upernet_elsa-swin-t.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k_adamw.py',
    '../_base_/default_runtime.py',
]
# There are no pretrained weights.
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
