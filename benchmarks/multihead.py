"""Multi-head external attention against self-attention, over tokens.

Both have heads of 64 channels, as EAMLP has, their projections and a
residual. With its fourfold expansion external attention multiplies more than
self-attention where tokens are few.
"""

import torch

from mmea.layers import MultiheadExternalAttention, SelfAttention2d
from mmea.profiling import Step

WIDTHS = (256, 384)
# Of maps 14 x 14, 24 x 24, 32 x 32, 48 x 48, 64 x 64 and 96 x 96.
TOKENS = (196, 576, 1024, 2304, 4096, 9216)
SELF = 'self-attention'


def _external(expansion):
    return lambda width: MultiheadExternalAttention(
        width, width // 64, expansion=expansion, batch_first=True
    )


KINDS = {
    'external, expansion 4': _external(4),
    'external, expansion 1': _external(1),
    SELF: lambda width: SelfAttention2d(width, num_heads=width // 64),
}


def make_step(kind, size, mode, device, dtype) -> Step:
    """Make the step of a layer; its size is such as '256 x 1024'."""
    torch.manual_seed(0)
    width, tokens = map(int, size.split(' x '))
    shape = 1, tokens, width
    if kind == SELF:  # takes a map: here of one column
        shape = 1, width, tokens, 1
    x = torch.randn(shape, device=device)
    return Step(KINDS[kind](width).to(device), x, mode=mode, dtype=dtype)
