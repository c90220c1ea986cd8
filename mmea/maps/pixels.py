"""Members whose tokens read tokens: what one of them reads, by no N x N map.

Each function gives the weights of the chosen pixel, (B, heads, H, W).
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mmea.layers import (
    ELSA2d,
    HaloAttention2d,
    LinearAttention2d,
    NonLocal2d,
    OutlookAttention2d,
    SelfAttention2d,
    StandAloneAttention2d,
)
from mmea.layers.stand_alone_attention2d import _sinusoids
from mmea.ops import to_windows

from .widen import heads_of, masked_softmax, widen

__all__ = ['elsa', 'halo', 'linear', 'non_local', 'outlook',
           'self_attention', 'stand_alone']  # fmt: skip

Pixel = tuple[int, int]


def self_attention(
    layer: SelfAttention2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    query, key, _ = (
        heads_of(part, layer.num_heads)
        for part in layer.qkv_proj(x).chunk(3, 1)
    )  # (B, h, D, H, W)
    query = query[..., pixel[0], pixel[1]] / query.shape[2] ** 0.5
    return _over_all(query, key, mask)


def _over_all(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """(B, h, D) and (B, h, D, H, W) to a softmax (B, h, H, W)."""
    logits = (query.unsqueeze(2) @ key.flatten(3)).squeeze(2)
    valid = None if mask is None else mask.flatten(1)
    return masked_softmax(logits, valid).unflatten(2, key.shape[3:])


def non_local(
    layer: NonLocal2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """Of mode dot_product the weights may be negative."""
    query = key = widen(x)
    if layer.mode != 'gaussian':
        query, key = widen(layer.query_proj(x)), widen(layer.key_proj(x))
    valid = None if mask is None else mask.unsqueeze(1)
    if layer.sub_sample:
        key = layer._pool(key, valid)
        if valid is not None:
            valid = layer._pool(valid.to(x.dtype)) > 0
    query = query[..., pixel[0], pixel[1], None]  # (B, C', 1)
    flat = None if valid is None else valid.flatten(2)
    reads = layer._weigh(query, key.flatten(2), flat)  # (B, 1, Nk)
    if flat is not None:
        reads = reads * flat
    reads = reads.unflatten(2, key.shape[2:])
    if not layer.sub_sample:
        return reads
    # A pooled key stands for the pixels that it was pooled of, each with an
    # even part of its weight; the last row or column of an odd size is a
    # key's by itself, or none's.
    height, width = x.shape[2:]
    for dim, size in zip((2, 3), (height, width)):
        factor = min(2, size)
        reads = reads.repeat_interleave(factor, dim) / factor
        if reads.shape[dim] > size:
            reads = reads.narrow(dim, 0, size)
            reads.select(dim, size - 1).mul_(factor)
    return F.pad(reads, (0, width - reads.shape[3],
                         0, height - reads.shape[2]))  # fmt: skip


def linear(
    layer: LinearAttention2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """Weights 1 + cosine, of mode 'dual' those of the pixels alone."""
    query, key = (
        F.normalize(widen(proj(x)), dim=1)
        for proj in (layer.query_proj, layer.key_proj)
    )
    query = query[..., pixel[0], pixel[1], None, None]
    weights = 1 + (query * key).sum(1, keepdim=True)
    if mask is not None:
        weights = weights * mask.unsqueeze(1)
    return weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)


def halo(
    layer: HaloAttention2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """With a stride, of the query that stands for the pixel."""
    block, around, stride = layer.block_size, layer.halo_size, layer.stride
    query, key = (
        heads_of(proj(x), layer.num_heads)
        for proj in (layer.query_proj, layer.key_proj)
    )
    inside = x.new_ones(len(x), *x.shape[2:], dtype=torch.bool)
    if mask is not None:
        inside = mask
        key = key * mask[:, None, None]
    row, column = (place // block for place in pixel)
    one = (..., slice(row, row + 1), slice(column, column + 1))
    index = [place % block // stride for place in pixel]
    blocks = (*one, slice(None), slice(None), slice(None))
    query = to_windows(query, block // stride)[blocks]
    key = to_windows(key, block, around)[blocks].flatten(5)
    logits = layer._weigh(query, key)[:, :, 0, 0]  # (B, h, (b / s)^2, side^2)
    logits = logits[:, :, index[0] * (block // stride) + index[1]]
    if layer.masked:
        inside = to_windows(inside[:, None, None], block, around)[blocks]
        inside = inside.flatten(1)[:, None]
        floor = torch.finfo(logits.dtype).min
        logits = logits.masked_fill(~inside, floor)
    side = block + 2 * around
    window = logits.softmax(-1).unflatten(2, (side, side))
    corner = row * block - around, column * block - around
    return _onto_map(window, corner, x)


def stand_alone(
    layer: StandAloneAttention2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """Before the average of a stride; of channelwise the mean of channels."""
    heads = layer.out_channels if layer.channelwise else layer.num_heads
    size = layer.kernel_size
    if layer.position == 'absolute':
        code = _sinusoids(x)
        x = x + (code if mask is None else code * mask.unsqueeze(1))
    query, key = (
        heads_of(proj(x), heads) for proj in (layer.query_proj, layer.key_proj)
    )
    query = query[..., pixel[0], pixel[1], None, None]  # (B, h, D, 1, 1)
    row, column = pixel
    keys = F.pad(key, 4 * (size // 2,))  # zeros beyond the border
    keys = keys[..., row : row + size, column : column + size]
    if layer.position == 'relative':
        rows = layer.row_tables[..., None].expand(-1, -1, -1, size)
        columns = layer.column_tables[:, :, None].expand(-1, -1, size, -1)
        shift = torch.cat([rows, columns], 1)  # (1 or h, D, K, K)
        if layer.channelwise:
            shift = shift.transpose(0, 1)  # (C, 1, K, K)
        keys = keys + shift
    logits = (query * keys).sum(2)  # (B, h, K, K)
    window = logits.flatten(2).softmax(2).view_as(logits)
    if layer.channelwise:
        window = window.mean(1, keepdim=True)
    return _onto_map(window, _corner(pixel, size), x)


def elsa(
    layer: ELSA2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """Compute the Hadamard attention, without the ghost head's filters."""
    width = layer.key_channels
    query, key = layer.qkv_proj(x)[:, : 2 * width].chunk(2, 1)
    pairs = query * key * layer.qk_scale
    if mask is not None:
        pairs = pairs * mask.unsqueeze(1)
    row, column = pixel
    pairs = layer.attn_conv(pairs)[..., row : row + 1, column : column + 1]
    logits = widen(layer.attn_proj(F.gelu(pairs)))
    window = logits.flatten(1).unflatten(1, (layer.num_heads, -1)).softmax(2)
    size = layer.kernel_size
    return _onto_map(
        window.unflatten(2, (size, size)), _corner(pixel, size), x
    )


def outlook(
    layer: OutlookAttention2d, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> Tensor:
    """Sum the windows that the pixel is in, each with a weight of 1."""
    size, step = layer.kernel_size, layer.window_stride
    attn = layer._weigh(x, mask)  # (B, h, nH, nW, K^2, K^2)
    # (Index of a window, place of the pixel in it), of rows and of columns.
    rows, columns = (
        [
            (i, inside)
            for i in range(number)
            if 0 <= (inside := place - i * step + size // 2) < size
        ]
        for place, number in zip(pixel, attn.shape[2:4])
    )
    reads = attn.new_zeros(*attn.shape[:2], *x.shape[2:])
    for (i, row), (j, column) in product(rows, columns):
        window = attn[:, :, i, j, row * size + column]
        if mask is not None:
            window = window * mask[:, None, i * step, j * step, None]
        corner = pixel[0] - row, pixel[1] - column
        reads += _onto_map(window.unflatten(2, (size, size)), corner, x)
    return reads


def _corner(pixel: Pixel, size: int) -> Pixel:
    return pixel[0] - size // 2, pixel[1] - size // 2


def _onto_map(window: Tensor, corner: Pixel, x: Tensor) -> Tensor:
    """Put (B, h, side, side) where it belongs on the map of x."""
    height, width = x.shape[2:]
    side = window.shape[2]
    maps = window.new_zeros(
        *window.shape[:2], height + 2 * side, width + 2 * side
    )
    top, left = corner[0] + side, corner[1] + side
    maps[..., top : top + side, left : left + side] = window
    return maps[..., side : side + height, side : side + width]
