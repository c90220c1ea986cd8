import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import from_blocks, to_windows

__all__ = ['local_logits', 'local_sum']

# Queries are taken 8 x 8 at a time. Larger tiles multiply more that no query
# needs, smaller ones copy more of the keys.
TILE = 8


def local_logits(query: Tensor, key: Tensor, kernel_size: int) -> Tensor:
    """Multiply each pixel with the window around it.

    Tiles of 8 x 8 queries meet all keys around their tile in one matrix
    product, of which a band is kept. That is (8 + K - 1)^2 / K^2 times the
    multiplications, by the fastest operation there is, and the keys are
    copied (8 + K - 1)^2 / 64 times instead of K^2 times.

    Args:
        query (Tensor): (B, h, D, H, W), h heads of D channels.
        key (Tensor): The same.
        kernel_size (int): K, odd.

    Returns:
        Tensor: (B, h, H, W, K, K); 0 where the window leaves the map.
    """
    height, width = query.shape[3:]
    side = TILE + kernel_size - 1
    query = to_windows(query, TILE).flatten(5)  # (B, h, nH, nW, D, 64)
    # (B, h, nH, nW, D, side^2)
    key = to_windows(key, TILE, kernel_size // 2).flatten(5)
    dense = query.mT @ key  # (B, h, nH, nW, 64, side^2)
    tiles = dense.shape[:4]
    band = dense.contiguous().as_strided(
        *_band(tiles.numel(), side, kernel_size)
    )
    # (B, h, nH, nW, 8, 8, K, K), the tiles back in their places
    band = band.unflatten(0, tiles).transpose(3, 4).flatten(4, 5)
    return band.flatten(2, 3)[:, :, :height, :width]


def local_sum(attn: Tensor, value: Tensor) -> Tensor:
    """Sum the window around each pixel with weights.

    Args:
        attn (Tensor): (B, h, H, W, K, K), K odd.
        value (Tensor): (B, h, D, H, W), zero outside the map.

    Returns:
        Tensor: (B, h, D, H, W). By tiles, as :func:`local_logits`.
    """
    height, width, kernel_size = attn.shape[2:5]
    side = TILE + kernel_size - 1
    # (B, h, nH, nW, D, side, side)
    value = to_windows(value, TILE, kernel_size // 2)
    batch, heads, rows, columns = tiles = value.shape[:4]
    attn = F.pad(
        attn.to(value.dtype),
        (0, 0, 0, 0, 0, -width % TILE, 0, -height % TILE),
    )
    attn = attn.view(
        batch, heads, rows, TILE, columns, TILE, kernel_size, kernel_size
    )
    attn = attn.transpose(3, 4).flatten(0, 3)  # (tiles, 8, 8, K, K)
    dense = torch.as_strided_scatter(
        attn.new_zeros(tiles.numel(), TILE**2, side**2),
        attn,
        *_band(tiles.numel(), side, kernel_size),
    )
    out = value.flatten(5) @ dense.unflatten(0, tiles).mT
    # (B, h, nH, nW, D, 8, 8), the tiles back in their places
    return from_blocks(out.unflatten(5, (TILE, TILE)), height, width)


def _band(
    number: int, side: int, kernel_size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and strides of the windows in (number, TILE^2, side^2).

    Pixel (p, s) of a tile has the window's corner at (p, s) of the side x
    side keys: one row down, one row of keys on.
    """
    size = (number, TILE, TILE, kernel_size, kernel_size)
    area = side**2
    strides = (TILE**2 * area, TILE * area + side, area + 1, side, 1)
    return size, strides
