_base_ = [
    '../_base_/models/pct_classifier.py',
    '../_base_/datasets/modelnet40.py',
    '../_base_/schedules/sgd_250e.py',
    '../_base_/default_runtime_mmengine.py',
]
model = dict(
    backbone=dict(attention=dict(type='mmea.OffsetAttention1d', external=True))
)
