"""How much of an image's result depends on its padding.

    python -m benchmarks.padding

One image alone and the same image beside a larger one, which pads it: the
norm of the difference on its own region, over the norm, of the maps of a
RetinaNet with ResNet-50, attention after C4 and on every level, all weights
random and the attention far from its start. What is left with the mask, as
without any attention, is what convolutions carry in from the padding.
"""

import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from torch import nn

from mmea.compare.report import markdown
from mmea.models import ExternalAttention2d
from mmea.registry import MODELS

SIZE, OTHER = (256, 320), (448, 544)
MAPS = ('C4', 'C5', 'P3', 'P4', 'P5', 'P6', 'P7')


def build(attention: bool, padding_mask: bool):
    """Backbone and neck, in eval mode, the same weights each time."""
    torch.manual_seed(0)
    cfg = dict(type='mmea.ExternalAttention2d')
    resnet = dict(
        type='mmea.StageAttentionResNet',
        after=['C4'],
        attention=cfg,
        depth=50,
        out_indices=(0, 1, 2, 3),
        init_cfg=None,
    )
    neck = [
        dict(
            type='FPN',
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            start_level=1,
            add_extra_convs='on_output',
            num_outs=5,
        ),
        dict(type='mmea.EANeck', in_channels=[256] * 5, attention=cfg),
    ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        parts = nn.ModuleDict(
            dict(
                backbone=MODELS.build(resnet),
                neck=nn.Sequential(*[MODELS.build(part) for part in neck]),
            )
        )
        preprocessor = MODELS.build(
            dict(
                type='mmea.DetDataPreprocessor',
                pad_size_divisor=32,
                padding_mask=padding_mask,
                mean=[127.5] * 3,
                std=[64.0] * 3,
            )
        )
    for layer in parts.modules():
        if isinstance(layer, ExternalAttention2d):
            if attention:
                nn.init.normal_(layer.out_proj.weight, std=0.2)
            else:
                nn.init.zeros_(layer.out_proj.weight)
                nn.init.zeros_(layer.out_proj.bias)
    return parts.eval(), preprocessor


@torch.no_grad()
def run(parts, preprocessor, images):
    """Crop the maps of the first image to its own region."""
    samples = [
        DetDataSample(metainfo=dict(img_shape=tuple(image.shape[-2:])))
        for image in images
    ]
    data = preprocessor(dict(inputs=images, data_samples=samples))
    stages = parts['backbone'](data['inputs'])
    maps = [*stages[2:], *parts['neck'](stages)]
    strides = [16, 32, 8, 16, 32, 64, 128]
    return [
        x[0, :, : -(-SIZE[0] // s), : -(-SIZE[1] // s)]
        for x, s in zip(maps, strides)
    ]


def main():
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(256, (3, *size), generator=generator).byte()
        for size in (SIZE, OTHER)
    ]
    lines = []
    for name, attention, mask in (
        ('no attention', False, False),
        ('attention, no mask', True, False),
        ('attention, mask', True, True),
    ):
        parts, preprocessor = build(attention, mask)
        alone = run(parts, preprocessor, images[:1])
        beside = run(parts, preprocessor, images)
        errors = [(a - b).norm() / a.norm() for a, b in zip(alone, beside)]
        lines.append([name, *(f'{error:.1e}' for error in errors)])
    print('\n'.join(markdown(['', *MAPS], lines)))


if __name__ == '__main__':
    main()
