"""Multi-head external attention against self-attention, over tokens.

Both have heads of 64 channels, as EAMLP has, their projections and a
residual. With its fourfold expansion external attention multiplies more than
self-attention where tokens are few.
"""

import torch

from mmea.layers import MultiheadExternalAttention, SelfAttention2d

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


class Contestant:
    """A layer on one sequence of tokens, ready to run one mode.

    Args:
        kind (str): One of KINDS.
        width (int): Channels of a token.
        tokens (int): Their number.
        mode (str): 'inference' or 'training'.
        device (str): 'cpu' or 'cuda'.
        dtype (torch.dtype): float32, or what autocast computes in.
    """

    def __init__(self, kind, width, tokens, mode, device, dtype):
        torch.manual_seed(0)
        self.mode, self.device, self.dtype = mode, device, dtype
        self.layer = KINDS[kind](width).to(device)
        self.layer.train(mode == 'training')
        shape = 1, tokens, width
        if kind == SELF:  # takes a map: here of one column
            shape = 1, width, tokens, 1
        self.x = torch.randn(shape, device=device)
        self.x.requires_grad_(mode == 'training')

    def step(self):
        with torch.autocast(
            self.device, self.dtype, enabled=self.dtype != torch.float32
        ):
            if self.mode == 'inference':
                with torch.inference_mode():
                    self.layer(self.x)
                return
            self.x.grad = None
            self.layer.zero_grad()
            y = self.layer(self.x)
        y.backward(torch.ones_like(y))
