_base_ = [
    '../_base_/models/pct_classifier_small.py',
    '../_base_/datasets/geometric_shapes.py',
    '../_base_/schedules/adamw_500i.py',
    '../_base_/default_runtime_mmengine.py',
]
