_base_ = [
    '../_base_/models/retinanet_mobilenet-v2_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/default_runtime_det.py',
]
# One block of external attention behind the pyramid, for all of its levels.
demo_model = '_base_/demo/retinanet_mobilenet-v2_ea-neck.py'
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[24, 32, 96, 1280],
            out_channels=256,
            start_level=1,
            add_extra_convs='on_output',
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
# RetinaNet learns at half the rate of the others.
optim_wrapper = dict(optimizer=dict(lr=0.01))
