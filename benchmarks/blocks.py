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
from mmea.profiling import Step

CHANNELS, SLOTS = 512, 64

PUBLISHED = 'external, published form'
COMPILED = 'external, published form, torch.compile'
OURS = 'external, low-rank (default)'
DEPLOYED = 'external, low-rank, deployed'
INPLACE = 'external, low-rank, in place'
BOTH = 'external, low-rank, deployed, in place'
AUTOGRAD = 'external, low-rank, autograd'
KERNEL = 'external, kernels'
KERNEL_DEPLOYED = 'external, kernels, deployed'
NON_LOCAL = 'non-local'

external = partial(
    ExternalAttention2d,
    num_slots=SLOTS,
    norm_layer=nn.BatchNorm2d,
    act_layer=nn.ReLU,
    zero_init=False,
)

# At the start it adds zero: what is written over the input can run again.
inplace = partial(external, zero_init=True, inplace=True)

BLOCKS: dict[str, Callable[[int], AttentionBlock2d]] = {
    PUBLISHED: partial(external, form='plain'),
    COMPILED: partial(external, form='plain'),
    OURS: external,
    DEPLOYED: external,
    INPLACE: inplace,
    BOTH: inplace,
    AUTOGRAD: external,
    KERNEL: partial(external, form='kernel'),
    KERNEL_DEPLOYED: partial(external, form='kernel'),
    'efficient attention': EfficientAttention2d,
    'self-attention, 1 x 256': lambda c: SelfAttention2d(c, channels=c // 2),
    'self-attention, 8 x 64': lambda c: SelfAttention2d(c, num_heads=8),
    NON_LOCAL: NonLocal2d,
}
ONLY = {
    name: 'inference' for name in (DEPLOYED, INPLACE, BOTH, KERNEL_DEPLOYED)
}
ONLY[AUTOGRAD] = 'training'
KERNELS = (KERNEL, KERNEL_DEPLOYED)  # on a GPU alone


def make_step(
    name: str,
    size: int,
    mode: str,
    device: str,
    dtype: torch.dtype,
    batch: int = 1,
) -> Step | None:
    """Make the step of a block; None where it has no such mode or device.

    Args:
        name (str): One of BLOCKS.
        size (int): Height and width of the map in tokens.
        mode (str): 'inference' or 'training'.
        device (str): 'cpu' or 'cuda'.
        dtype (torch.dtype): Of the input; if not float32, what autocast
            computes in.
        batch (int): Maps. Default: 1.
    """
    if ONLY.get(name, mode) != mode or (name in KERNELS and device == 'cpu'):
        return None
    torch.manual_seed(0)
    block = BLOCKS[name](CHANNELS).to(device)
    run = block
    if name == COMPILED:
        run = torch.compile(block, dynamic=False)
    elif name in (DEPLOYED, BOTH, KERNEL_DEPLOYED):
        block.eval().switch_to_deploy()
    elif name == AUTOGRAD:
        run = partial(_autograd, block)
    x = torch.randn(batch, CHANNELS, size, size, device=device, dtype=dtype)
    return Step(block, x, mode=mode, dtype=dtype, run=run)


def _autograd(block, x):
    """Run the low-rank form of training with the backward pass of autograd."""
    out, _ = low_rank_block(
        x.flatten(2),
        *block._fold(block.norm),
        eps=block.eps,
        norm_eps=block.norm.eps,
        relu=True,
    )
    return out.view_as(x)
