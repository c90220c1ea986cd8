_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# The causal path of CaaM's ResNet-18. The weights are a plain ResNet-18's,
# trained without gates: nothing is frozen, the statistics are not kept.
demo_model = '_base_/demo/mask-rcnn_caam-resnet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.CaaMResNet',
        depth=18,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/'
            'resnet18-f37072fd.pth',
        ),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
