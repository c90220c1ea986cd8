import torch
from torch import Tensor

from ..modes import is_traced, is_transformed
from ..windows import from_blocks, join_blocks, pad_to_blocks, to_windows, turn

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
    dense = turn(query) @ key  # (B, h, nH, nW, 64, side^2)
    band = _take_band(dense, side, kernel_size)
    # (B, h, nH, nW, 8, 8, K, K), the tiles back in their places
    return join_blocks(band.transpose(3, 4), 2, height, width)


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
    attn = pad_to_blocks(attn.to(value.dtype), 2, TILE)
    # (B, h, nH, nW, 8, 8, K, K) to (B, h, nH, nW, 64, side^2)
    dense = _put_band(attn.transpose(3, 4), side)
    out = value.flatten(5) @ turn(dense)
    # (B, h, nH, nW, D, 8, 8), the tiles back in their places
    return from_blocks(out.unflatten(5, (TILE, TILE)), height, width)


def _take_band(dense: Tensor, side: int, kernel_size: int) -> Tensor:
    """(..., TILE^2, side^2) to (..., TILE, TILE, K, K): the windows' part."""
    tiles = dense.shape[:-2]
    if is_traced() or is_transformed():
        # as_strided() bakes in the sizes and has no rule for transforms.
        place = _places(side, kernel_size, dense.device)
        band = dense.gather(-1, place.expand(*tiles, -1, -1))
        band = band.unflatten(-1, (kernel_size, kernel_size))
        return band.unflatten(-3, (TILE, TILE))
    band = dense.contiguous().as_strided(
        *_band(tiles.numel(), side, kernel_size)
    )
    return band.unflatten(0, tiles)


def _put_band(attn: Tensor, side: int) -> Tensor:
    """Turn it round: zeros beside the windows."""
    kernel_size = attn.shape[-1]
    if is_traced() or is_transformed():
        place = _places(side, kernel_size, attn.device)
        attn = attn.flatten(-2).flatten(-3, -2)  # (..., TILE^2, K^2)
        zeros = attn.new_zeros(*attn.shape[:-1], side**2)
        return zeros.scatter(-1, place.expand_as(attn), attn)
    tiles = attn.shape[:-4]
    dense = torch.as_strided_scatter(
        attn.new_zeros(tiles.numel(), TILE**2, side**2),
        attn.flatten(0, -5),
        *_band(tiles.numel(), side, kernel_size),
    )
    return dense.unflatten(0, tiles)


def _places(side: int, kernel_size: int, device: torch.device) -> Tensor:
    """Index of the windows' part, (TILE^2, K^2), as :func:`_band` has it."""
    sizes = TILE, TILE, kernel_size, kernel_size
    place = torch.zeros((), dtype=torch.long, device=device)
    for number, stride in zip(sizes, (side, 1, side, 1)):
        place = place[..., None] + stride * torch.arange(number, device=device)
    return place.flatten(2).flatten(0, 1)


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
