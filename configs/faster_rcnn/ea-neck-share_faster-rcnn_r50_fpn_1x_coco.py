_base_ = [
    '../_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# External attention on every level of the pyramid, with shared memories.
demo_model = '_base_/demo/faster-rcnn_ea-neck-share.py'
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            num_outs=5,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[256] * 5,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ]
)
