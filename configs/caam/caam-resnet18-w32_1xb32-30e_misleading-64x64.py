_base_ = [
    '../_base_/models/caam-resnet18-w32_misleading.py',
    '../_base_/datasets/misleading_64x64.py',
    '../_base_/schedules/sgd_30e.py',
    '../_base_/default_runtime_mmengine.py',
]
