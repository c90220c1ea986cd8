"""What an attention costs in each of its places in a detector.

The maps are those of one image of 800 x 1333, padded to 800 x 1344, in a
detector with ResNet-50 and FPN; regions are the 100 that Mask R-CNN keeps.
"""

import torch
from torch import nn

from mmea.layers import ExternalAttention2d, NonLocal2d
from mmea.profiling import Step

HEIGHT, WIDTH = 800, 1344
KINDS = {
    'external, published form': lambda c: ExternalAttention2d(c, form='plain'),
    'external, low-rank (default)': ExternalAttention2d,
    'non-local': NonLocal2d,
}


def _map(channels, stride):
    return (1, channels, -(-HEIGHT // stride), -(-WIDTH // stride))


_PYRAMID = [_map(256, 2**i) for i in range(2, 7)]
# Place: the maps, and for each of them which layer it goes through.
PLACES = {
    'after C3': ([_map(512, 8)], [0]),
    'after C4': ([_map(1024, 16)], [0]),
    'after C5': ([_map(2048, 32)], [0]),
    'EANeck, P2 to P6': (_PYRAMID, range(5)),
    'EANeck, P2 to P6, shared': (_PYRAMID, [0] * 5),
    'EANeck, P3 to P6': (_PYRAMID[1:], range(4)),
    'EABFP, refined at stride 16': ([_map(256, 16)], [0]),
    'plugin in the 6 bottlenecks of C4': ([_map(1024, 16)] * 6, range(6)),
    'EAMaskHead, 100 regions': ([(100, 256, 14, 14)], [0]),
    'EARetinaHead, two towers, P3 to P7': (
        [_map(256, 2**i) for i in range(3, 8)] * 2,
        [0] * 5 + [1] * 5,
    ),
}
# The N x N map of P2 alone has 67200^2 entries, 18 GB.
TOO_LARGE = {
    ('EANeck, P2 to P6', 'non-local'),
    ('EANeck, P2 to P6, shared', 'non-local'),
}


def make_step(kind, place, mode, device, dtype) -> Step | None:
    """Make the step of an attention on the maps of a place."""
    if (place, kind) in TOO_LARGE:
        return None
    torch.manual_seed(0)
    maps, index = PLACES[place]
    widths = {i: shape[1] for i, shape in zip(index, maps)}
    layers = nn.ModuleList(KINDS[kind](width) for width in widths.values())

    def run(*xs):
        return [layers[i](x) for i, x in zip(index, xs)]

    xs = [torch.randn(shape, device=device) for shape in maps]
    return Step(layers.to(device), *xs, mode=mode, dtype=dtype, run=run)
