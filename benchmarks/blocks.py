"""One attention block of each kind, on a map of C channels."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from mmea.layers import (
    AttentionBlock2d,
    EfficientAttention2d,
    ExternalAttention2d,
    NonLocal2d,
    SelfAttention2d,
)
from mmea.ops import low_rank_block

CHANNELS, SLOTS = 512, 64

PUBLISHED = 'external, published form'
COMPILED = 'external, published form, torch.compile'
OURS = 'external, low-rank (default)'
DEPLOYED = 'external, low-rank, deployed'
AUTOGRAD = 'external, low-rank, autograd'
NON_LOCAL = 'non-local'

external = partial(
    ExternalAttention2d,
    num_slots=SLOTS,
    norm_layer=nn.BatchNorm2d,
    act_layer=nn.ReLU,
    zero_init=False,
)

BLOCKS: dict[str, Callable[[int], AttentionBlock2d]] = {
    PUBLISHED: partial(external, form='plain'),
    COMPILED: partial(external, form='plain'),
    OURS: external,
    DEPLOYED: external,
    AUTOGRAD: external,
    'efficient attention': EfficientAttention2d,
    'self-attention, 1 x 256': lambda c: SelfAttention2d(c, channels=c // 2),
    'self-attention, 8 x 64': lambda c: SelfAttention2d(c, num_heads=8),
    NON_LOCAL: NonLocal2d,
}
ONLY = {DEPLOYED: 'inference', AUTOGRAD: 'training'}


class Contestant:
    """A block, ready to run one mode at one size.

    Args:
        name (str): One of BLOCKS.
        mode (str): 'inference' or 'training'.
        size (int): Height and width of the map in tokens.
        device (str): 'cpu' or 'cuda'.
        dtype (torch.dtype): float32, or what autocast computes in.
    """

    def __init__(self, name, mode, size, device, dtype):
        torch.manual_seed(0)
        self.mode, self.device, self.dtype = mode, device, dtype
        self.block = BLOCKS[name](CHANNELS).to(device)
        self.block.train(mode == 'training')
        self.run = self.block
        if name == COMPILED:
            self.run = torch.compile(self.block, dynamic=False)
        elif name == DEPLOYED:
            self.block.switch_to_deploy()
        elif name == AUTOGRAD:
            self.run = partial(_autograd, self.block)
        half = dtype if device == 'cuda' else torch.float32
        shape = 1, CHANNELS, size, size
        self.x = torch.randn(shape, device=device, dtype=half)
        self.grad = torch.randn_like(self.x)
        self.x.requires_grad_(mode == 'training')

    def forward(self) -> torch.Tensor:
        with torch.autocast(
            self.device, self.dtype, enabled=self.dtype != torch.float32
        ):
            return self.run(self.x)

    def step(self):
        if self.mode == 'inference':
            with torch.inference_mode():
                self.forward()
            return
        self.x.grad = None
        self.block.zero_grad()
        y = self.forward()
        y.backward(self.grad.to(y.dtype))


def _autograd(block, x):
    """The low-rank form of training with the backward pass of autograd."""
    out, _ = low_rank_block(
        x.flatten(2),
        *block._fold(block.norm),
        eps=block.eps,
        norm_eps=block.norm.eps,
        relu=True,
    )
    return out.view_as(x)
