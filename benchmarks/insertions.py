"""What an attention costs in each of its places in a detector.

The maps are those of one image of 800 x 1333, padded to 800 x 1344, in a
detector with ResNet-50 and FPN; regions are the 100 that Mask R-CNN keeps.
"""

import torch
from torch import nn

from mmea.layers import ExternalAttention2d, NonLocal2d

HEIGHT, WIDTH = 800, 1344
KINDS = {
    'external, published form': lambda c: ExternalAttention2d(c, form='plain'),
    'external, low-rank (default)': ExternalAttention2d,
    'non-local': NonLocal2d,
}


def _map(channels, stride):
    return (1, channels, -(-HEIGHT // stride), -(-WIDTH // stride))


_PYRAMID = [_map(256, 2**i) for i in range(2, 7)]
# Place: the maps, and which of them go through the same weights.
PLACES = {
    'after C3': ([_map(512, 8)], False),
    'after C4': ([_map(1024, 16)], False),
    'after C5': ([_map(2048, 32)], False),
    'EANeck, P2 to P6': (_PYRAMID, False),
    'EANeck, P2 to P6, shared': (_PYRAMID, True),
    'EANeck, P3 to P6': (_PYRAMID[1:], False),
    'EABFP, refined at stride 16': ([_map(256, 16)], False),
    'plugin in the 6 bottlenecks of C4': ([_map(1024, 16)] * 6, False),
    'EAMaskHead, 100 regions': ([(100, 256, 14, 14)], False),
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


class Insertion:
    """The attention of one place, with its maps, ready to run one mode."""

    def __init__(self, place, kind, mode, device='cpu'):
        torch.manual_seed(0)
        self.mode = mode
        maps, share = PLACES[place]
        if share is True:
            share = [0] * len(maps)
        self.index = share or list(range(len(maps)))
        widths = {i: shape[1] for i, shape in zip(self.index, maps)}
        self.layers = nn.ModuleList(
            KINDS[kind](width) for width in widths.values()
        ).to(device)
        self.layers.train(mode == 'training')
        self.xs = [
            torch.randn(shape, device=device, requires_grad=mode == 'training')
            for shape in maps
        ]

    def step(self):
        if self.mode == 'inference':
            with torch.inference_mode():
                for i, x in zip(self.index, self.xs):
                    self.layers[i](x)
            return
        self.layers.zero_grad()
        outs = []
        for i, x in zip(self.index, self.xs):
            x.grad = None
            outs.append(self.layers[i](x))
        torch.autograd.backward(outs, [torch.ones_like(y) for y in outs])
