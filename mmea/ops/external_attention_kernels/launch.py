"""Allocate for the forward kernels and launch them."""

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .inference import apply_attention, combine, summarise_tokens

__all__ = ['Sizes', 'apply', 'infer', 'sizes_of', 'sum_up']

_TRITON = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


class Sizes(NamedTuple):
    """Sizes of a call, and the constants of its kernels."""

    batch: int
    tokens: int
    tiles: int
    slots: int
    constants: dict[str, Any]


def sizes_of(x: Tensor, slots: int, dtype: torch.dtype) -> Sizes:
    """Choose the tiles for tokens (B, C, N), products in ``dtype``."""
    batch, channels, tokens = x.shape
    # Small tiles where there is little, or most of a GPU would idle. In
    # float32 larger ones would spill registers.
    half = dtype.itemsize == 2
    tile = 64 if half and batch * tokens > 2**14 else 32
    block = min(64 if half else 32, triton.next_power_of_2(channels))
    tf32 = torch.get_float32_matmul_precision() != 'highest'
    # The interpreter has no arithmetic in bfloat16.
    if dtype == torch.bfloat16 and os.environ.get('TRITON_INTERPRET') == '1':
        dtype = torch.float32
    padded = max(16, triton.next_power_of_2(slots))
    constants = dict(
        C=channels,
        SB=padded,
        BN=tile,
        BC=max(16, block),
        DTYPE=_TRITON[dtype],
        PREC='tf32' if tf32 else 'ieee',
        num_warps=8,
        # A third tile under way would not fit into shared memory everywhere.
        num_stages=3 if padded <= 64 else 2,
    )
    return Sizes(batch, tokens, triton.cdiv(tokens, tile), slots, constants)


def infer(
    x: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    *,
    eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Compute the block without a gradient, the logits twice.

    Args:
        x (Tensor): (B, C, N), contiguous or channels last.
        key, value (Tensor): (S, C), folded.
        bias (Tensor | None): (C).
        mask (Tensor | None): bool (B, N), contiguous.
        eps, residual, relu: As of ``low_rank_block``.
        dtype (torch.dtype): What the products compute in.

    Returns:
        Tensor: In the memory layout of ``x``.
    """
    sizes = sizes_of(x, len(key), dtype)
    key = key.to(dtype).contiguous()
    lse = sum_up(x, key, mask, None, sizes)
    return apply(
        x, key, mask, None, lse, value, bias, None, None, sizes,
        eps=eps, residual=residual, relu=relu, dtype=dtype,
    )  # fmt: skip


def sum_up(
    x: Tensor,
    key: Tensor,
    mask: Tensor | None,
    logits: Tensor | None,
    sizes: Sizes,
) -> Tensor:
    """Run pass 1: the log-sum-exp over tokens (B, S), and the logits."""
    batch, tokens, tiles, slots, constants = sizes
    padded = constants['SB']
    tops, sums = x.new_empty(
        (2, batch, tiles, padded), dtype=torch.float32
    ).unbind()
    summarise_tokens[(tiles, batch)](
        x, key, mask, logits, tops, sums, tokens, slots, tiles, *x.stride(),
        **constants,
    )  # fmt: skip
    lse = x.new_empty((batch, slots), dtype=torch.float32)
    combine[(batch,)](tops, sums, lse, slots, tiles, SB=padded, BT=32)
    return lse


def apply(
    x: Tensor,
    key: Tensor,
    mask: Tensor | None,
    logits: Tensor | None,
    lse: Tensor,
    value: Tensor,
    shift: Tensor | None,
    centre: Tensor | None,
    bits: Tensor | None,
    sizes: Sizes,
    *,
    eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Run pass 2."""
    batch, tokens, tiles, slots, constants = sizes
    out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, dtype))
    words = 0 if bits is None else bits.shape[2]
    value = value.to(torch.float32).contiguous()
    shift = None if shift is None else shift.to(torch.float32)
    apply_attention[(tiles, batch)](
        x, key, mask, logits, lse, value, shift, centre, out, bits,
        tokens, slots, words, eps, *x.stride(),
        RESIDUAL=residual, RELU=relu, **constants,
    )  # fmt: skip
    return out
