from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .modes import is_traced

__all__ = ['from_blocks', 'join_blocks', 'pad_to_blocks', 'to_windows', 'turn']


def to_windows(x: Tensor, block_size: int, halo_size: int = 0) -> Tensor:
    """Cut a map into blocks, each with what is around it.

    Args:
        x (Tensor): (B, h, D, H, W), any H and W.
        block_size (int): Side b of the blocks; the last ones may reach over
            the border.
        halo_size (int): Pixels on each side of a block. Default: 0.

    Returns:
        Tensor: (B, h, nH, nW, D, side, side), side = b + 2 halo_size, zero
        outside the map. Contiguous.
    """
    side = block_size + 2 * halo_size
    if is_traced():
        for dim in (3, 5):
            x = _cut(x, dim, block_size, halo_size)
        return x.permute(0, 1, 3, 5, 2, 4, 6).contiguous()
    height, width = x.shape[3:]
    x = F.pad(
        x,
        (
            halo_size,
            halo_size + -width % block_size,
            halo_size,
            halo_size + -height % block_size,
        ),
    )
    x = x.unfold(3, side, block_size).unfold(4, side, block_size)
    return x.permute(0, 1, 3, 4, 2, 5, 6).contiguous()


def from_blocks(blocks: Tensor, height: int, width: int) -> Tensor:
    """Put blocks together, (B, h, nH, nW, D, b, b) to (B, h, D, H, W)."""
    return join_blocks(blocks.permute(0, 1, 4, 2, 5, 3, 6), 3, height, width)


def pad_to_blocks(x: Tensor, dim: int, block_size: int) -> Tensor:
    """Unflatten two dimensions to blocks, zeros beyond the border.

    (..., H, W, ...) to (..., nH, b, nW, b, ...), H at ``dim``.
    """
    if is_traced():
        x = _cut(x, dim + 1, block_size)
        return _cut(x, dim, block_size)
    height, width = x.shape[dim : dim + 2]
    behind = (0, 0) * (x.dim() - dim - 2)
    x = F.pad(x, (*behind, 0, -width % block_size, 0, -height % block_size))
    x = x.unflatten(dim + 1, (-1, block_size))
    return x.unflatten(dim, (-1, block_size))


def join_blocks(x: Tensor, dim: int, height: int, width: int) -> Tensor:
    """Turn it round: (..., nH, b, nW, b, ...) to (..., H, W, ...)."""
    before: tuple[Any, ...] = (slice(None),) * dim
    if is_traced():
        for i, size in ((2, width), (0, height)):
            place, block = (
                torch.arange(size, device=x.device),
                x.shape[dim + 1],
            )
            index: Any = (place // block, place % block)
            x = x.contiguous()[(*before, *(slice(None),) * i, *index)]
        return x
    x = x.flatten(dim + 2, dim + 3).flatten(dim, dim + 1)
    return x[(*before, slice(height), slice(width))]


def turn(x: Tensor) -> Tensor:
    """Transpose matrices for a product; see :func:`_cut` for the copy."""
    x = x.transpose(-2, -1)
    return x.contiguous() if is_traced() else x


def _cut(x: Tensor, dim: int, block_size: int, halo_size: int = 0) -> Tensor:
    """Cut one dimension into blocks with what is around, as a tracer needs it.

    By index: tracers take what unfold(), slices and flatten() check of a
    size for a limit to it.
    """
    number = (x.shape[dim] + block_size - 1) // block_size
    side = block_size + 2 * halo_size
    behind = (0, 0) * (x.dim() - dim - 1)
    x = F.pad(x, (*behind, halo_size, halo_size + block_size - 1))
    corner = block_size * torch.arange(number, device=x.device)[:, None]
    place = corner + torch.arange(side, device=x.device)
    index: tuple[Any, ...] = (*(slice(None),) * dim, place)
    return x[index]
