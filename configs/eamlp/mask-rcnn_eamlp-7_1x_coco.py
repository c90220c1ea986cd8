_base_ = [
    '../_base_/models/mask-rcnn_eamlp-7.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# AdamW, as transformers are trained.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(cls_token=dict(decay_mult=0.0))
    ),
)
