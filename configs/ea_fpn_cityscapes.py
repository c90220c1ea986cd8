_base_ = [
    '_base_/models/ea_fpn_r50.py',
    '_base_/datasets/cityscapes.py',
    '_base_/schedules/80k.py',
    '_base_/default_runtime.py',
]
# 4 GPUs x 2 images.
model = dict(data_preprocessor=dict(size=(512, 1024)))
