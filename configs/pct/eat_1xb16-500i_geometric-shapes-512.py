_base_ = [
    '../_base_/models/pct_classifier_small.py',
    '../_base_/datasets/geometric_shapes.py',
    '../_base_/schedules/adamw_500i.py',
    '../_base_/default_runtime_mmengine.py',
]
model = dict(
    backbone=dict(
        attention=dict(type='mmea.OffsetAttention1d', external=True)
    ),
    num_classes=40,
)
