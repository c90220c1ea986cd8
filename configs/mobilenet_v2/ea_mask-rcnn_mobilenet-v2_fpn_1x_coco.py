_base_ = [
    '../_base_/models/mask-rcnn_mobilenet-v2_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention behind the pyramid, for all of its levels.
demo_model = '_base_/demo/mask-rcnn_mobilenet-v2_ea-neck.py'
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[24, 32, 96, 1280],
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
