_base_ = [
    '_base_/models/ea_fpn_r50.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/160k.py',
    '_base_/default_runtime.py',
]
# 4 GPUs x 4 images.
model = dict(
    data_preprocessor=dict(size=(512, 512)), decode_head=dict(num_classes=150)
)
