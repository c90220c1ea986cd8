_base_ = './retinanet_r50_fpn.py'

# RetinaNet with an FPN over MobileNetV2; all else as over ResNet-50.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/retinanet_mobilenet-v2.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        # The last is the conv of 1280 channels behind stage 7. mmdet runs it
        # in any case: left out of the pyramid it would have no gradient, on
        # which DDP stops.
        out_indices=(1, 2, 4, 7),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        # torchvision's, trained on ImageNet; a file does as well. To train
        # without: --cfg-options model.backbone.init_cfg=None
        init_cfg=dict(
            type='mmea.Pretrained',
            checkpoint='https://download.pytorch.org/models/'
            'mobilenet_v2-b0353104.pth',
        ),
    ),
    neck=dict(
        in_channels=[24, 32, 96, 1280],
        # From 1280 channels ('on_input') P6 alone would take 2.9 M parameters.
        add_extra_convs='on_output',
    ),
)
