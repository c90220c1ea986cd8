_base_ = [
    '../_base_/models/pct_part-segmentor.py',
    '../_base_/datasets/shapenetpart.py',
    '../_base_/schedules/sgd_250e.py',
    '../_base_/default_runtime_mmengine.py',
]
