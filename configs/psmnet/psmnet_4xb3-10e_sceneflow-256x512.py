_base_ = [
    '../_base_/models/psmnet.py',
    '../_base_/datasets/sceneflow_256x512.py',
    '../_base_/schedules/adam_10e.py',
    '../_base_/default_runtime_mmengine.py',
]
