"""Allocate for the kernels of training and launch them."""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from .launch import Sizes, apply, sizes_of, sum_up
from .training import (
    grad_attention,
    grad_key,
    grad_softmax,
    grad_tokens,
    grad_value,
    sum_statistics,
)

__all__ = ['Saved', 'go_back', 'train']

_PROGRAMS = 256  # some for each of a GPU's 100 to 150 multiprocessors


class Saved(NamedTuple):
    """What a forward pass leaves to the backward one; empty where unused.

    Attributes:
        mean, var (Tensor): (C), of the batch.
        count (Tensor): Number of valid tokens, a scalar.
        logits (Tensor): (B, S, N).
        lse (Tensor): Their log-sum-exp over tokens, (B, S).
        centre (Tensor): The mean of P, (S).
        gram (Tensor): Sum of (P - centre)(P - centre)^T, (S, S).
        bits (Tensor): Where the ReLU let through, int32 (B, C, N / 32).
    """

    mean: Tensor
    var: Tensor
    count: Tensor  # type: ignore[assignment]  # it hides tuple.count
    logits: Tensor
    lse: Tensor
    centre: Tensor
    gram: Tensor
    bits: Tensor

    @classmethod
    def allocate(
        cls, x: Tensor, slots: int, *, norm: bool, relu: bool
    ) -> 'Saved':
        """Allocate all of it, for tokens (B, C, N)."""
        batch, channels, tokens = x.shape
        words = (tokens + 31) // 32

        def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return x.new_empty(shape, dtype=dtype)

        return cls(
            mean=new(channels if norm else 0),
            var=new(channels if norm else 0),
            count=x.new_zeros((), dtype=torch.float32),
            logits=new(batch, slots, tokens),
            lse=new(batch, slots),
            centre=new(slots if norm else 0),
            gram=new(slots if norm else 0, slots),
            bits=new(batch if relu else 0, channels, words, dtype=torch.int32),
        )


def train(
    x: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    mask: Tensor | None,
    *,
    eps: float,
    norm_eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Saved]:
    """Compute the block, and what its backward pass needs.

    Arguments are those of ``infer`` and ``low_rank_block``.
    """
    sizes = sizes_of(x, len(key), dtype)
    norm = weight is not None
    saved = Saved.allocate(x, len(key), norm=norm, relu=relu)
    key = key.to(dtype).contiguous()
    saved.lse.copy_(sum_up(x, key, mask, saved.logits, sizes))
    if weight is not None:
        _take_statistics(saved, value, mask, sizes, eps)
        value = value * _scale(weight, saved.var, norm_eps)
    out = apply(
        x, key, mask, saved.logits, saved.lse, value, bias,
        saved.centre if norm else None, saved.bits if relu else None, sizes,
        eps=eps, residual=residual, relu=relu, dtype=dtype,
    )  # fmt: skip
    return out, saved


def _scale(weight: Tensor, var: Tensor, norm_eps: float) -> Tensor:
    return weight.to(torch.float32) * torch.rsqrt(var + norm_eps)


def _take_statistics(
    saved: Saved,
    value: Tensor,
    mask: Tensor | None,
    sizes: Sizes,
    eps: float,
) -> None:
    """Fill in those of P, and by them those of Z = D P."""
    tiles, programs, constants = _walk(sizes)
    batch, padded, slots = sizes.batch, constants['SB'], sizes.slots
    del constants['DTYPE']  # its product is in float32
    new = saved.logits.new_empty
    counts = new(batch, programs)
    means = new(batch, programs, padded)
    grams = new(batch, programs, padded, padded)
    sum_statistics[(programs, batch)](
        mask, saved.logits, saved.lse, counts, means, grams,
        sizes.tokens, slots, tiles, programs, eps, **constants,
    )  # fmt: skip
    counts = counts.flatten()
    means = means.flatten(0, 1)[:, :slots]
    valid = counts.sum()
    total = valid.clamp(min=1)
    centre = counts @ means / total
    off = means - centre
    gram = grams.sum((0, 1))[:slots, :slots] + (off.t() * counts) @ off
    value = value.to(torch.float32)  # (S, C)
    # Rounding may leave a variance of zero below zero.
    var = (value * ((gram / total) @ value)).sum(0).clamp(min=0)
    saved.mean.copy_(centre @ value)
    saved.var.copy_(var)
    saved.count.copy_(valid)
    saved.centre.copy_(centre)
    saved.gram.copy_(gram)


def _walk(sizes: Sizes) -> tuple[int, int, dict[str, Any]]:
    """Choose tiles, programs and constants of a kernel of S x S products.

    A larger tile, or a second one under way, would spill registers.
    """
    tile = 32
    tiles = triton.cdiv(sizes.tokens, tile)
    names = ('SB', 'DTYPE', 'PREC', 'num_warps')
    constants = {name: sizes.constants[name] for name in names}
    constants.update(BN=tile, num_stages=1)
    return tiles, min(tiles, max(1, _PROGRAMS // sizes.batch)), constants


def go_back(
    grad: Tensor,
    x: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    mask: Tensor | None,
    saved: Saved,
    *,
    eps: float,
    norm_eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of tokens, key, value (S, C), bias, weight (C).

    That of ``weight`` is empty without one.
    """
    sizes = sizes_of(x, len(key), dtype)
    batch, tokens, tiles, slots, constants = sizes
    padded, channels = constants['SB'], constants['C']
    if grad.stride() != x.stride():
        grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
    bits = saved.bits if relu else None
    words = saved.bits.shape[2]
    new = saved.logits.new_empty
    value = value.to(torch.float32)  # (S, C)
    scale, centre, scaled = None, None, value
    back, coupling, rest, top = None, None, None, None
    if weight is not None:
        scale = _scale(weight, saved.var, norm_eps)
        centre, scaled = saved.centre, value * scale

    # E = D^T dY, and the sums over tokens of dY and of (P - centre) dY^T.
    peak = scaled.abs().amax(1).clamp(min=1e-30)
    dattn = torch.empty_like(saved.logits)
    grad_attention[(tiles, batch)](
        grad, bits, mask, scaled / peak[:, None], peak, dattn,
        tokens, slots, words, *x.stride(), **constants,
    )  # fmt: skip
    blocks = triton.cdiv(channels, constants['BC'])
    rows = min(tiles, max(1, _PROGRAMS // (batch * blocks)))
    sums = new(batch, rows, channels)
    products = new(batch, rows, padded, channels)
    # P is there in two halves: a third tile would not fit besides.
    two_tiles = dict(constants, num_stages=2)
    grad_value[(blocks, rows, batch)](
        grad, bits, mask, saved.logits, saved.lse, centre, sums, products,
        tokens, slots, words, tiles, rows, eps, *x.stride(), **two_tiles,
    )  # fmt: skip
    dbias = sums.sum((0, 1))
    dvalue = products.sum((0, 1))[:slots]  # (S, C)

    # Normalisation, in its three paths: scale, mean and variance.
    dweight = dbias.new_empty(0)
    if weight is not None and scale is not None:
        rstd = torch.rsqrt(saved.var + norm_eps)
        dweight = (value * dvalue).sum(0) * rstd
        total = saved.count.clamp(min=1)
        back = scaled @ (dbias / total)
        through = value * (dweight * rstd / total)
        coupling = scaled @ through.t()
        if dtype.itemsize == 2:
            top = coupling.abs().amax(1).clamp(min=1e-30)
            whole = coupling / top[:, None]
            coupling = whole.to(dtype)
            rest = (whole - coupling).to(dtype)
        dvalue = scale * (dvalue - saved.gram @ through)

    # Double normalisation, in place, and what the logits are made of.
    walked, programs, slot_constants = _walk(sizes)
    over = new(batch, programs, slots)
    grad_softmax[(programs, batch)](
        mask, saved.logits, saved.lse, centre, back, coupling, rest, top,
        dattn, over, tokens, slots, walked, programs, eps, **slot_constants,
    )  # fmt: skip
    dx = torch.empty_like(x)
    grad_tokens[(tiles, batch)](
        grad, bits, mask, key.to(dtype).contiguous(), saved.logits, saved.lse,
        over.sum(1), dattn, dx, tokens, slots, words, *x.stride(),
        RESIDUAL=residual, **constants,
    )  # fmt: skip
    products = torch.empty_like(products)
    grad_key[(blocks, rows, batch)](
        x, mask, dattn, products, tokens, slots, tiles, rows, *x.stride(),
        **constants,
    )  # fmt: skip
    dkey = products.sum((0, 1))[:slots]
    return dx, dkey, dvalue, dbias, dweight
