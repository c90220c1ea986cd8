_base_ = [
    '../_base_/models/caam-t2t-vit-7_misleading.py',
    '../_base_/datasets/misleading_64x64.py',
    '../_base_/schedules/adamw_30e.py',
    '../_base_/default_runtime_mmengine.py',
]
