_base_ = [
    '../_base_/models/pct_classifier_small.py',
    '../_base_/datasets/modelnet10_voxels.py',
    '../_base_/schedules/adamw_500i.py',
    '../_base_/default_runtime_mmengine.py',
]
model = dict(num_classes=2)
