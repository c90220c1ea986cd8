"""Members whose tokens read slots: which tokens read which."""

from torch import Tensor

from mmea.layers import (
    CATT2d,
    EfficientAttention2d,
    ExternalAttention2d,
    MultiheadExternalAttention,
)
from mmea.ops import double_norm

from .result import AttentionMaps
from .widen import heads_of, masked_softmax, widen

__all__ = ['dictionary', 'efficient', 'external', 'multihead']

Grid = tuple[int, int]


def external(
    layer: ExternalAttention2d, x: Tensor, mask: Tensor | None
) -> dict:
    """Make the map that the low-rank form never makes, of the same numbers."""
    bias = None
    if layer.deployed:
        keys, tokens = layer.deployed_key, x
        bias = layer.deployed_key_bias
    else:
        keys, tokens = layer.key_memory, layer.in_proj(x)
    tokens = widen(tokens).flatten(2)
    logits = keys.to(tokens.dtype) @ tokens  # (B, S, N)
    if bias is not None:
        logits = logits + bias[:, None]
    valid = None if mask is None else mask.flatten(1)
    attention = double_norm(
        logits, eps=layer.eps, mask=valid, over_tokens=layer.over_tokens
    )
    softmax = None
    if layer.over_tokens:
        softmax = masked_softmax(logits, valid).unflatten(2, x.shape[2:])
    return dict(
        attention=attention.unflatten(2, x.shape[2:]),
        token_softmax=softmax,
        keys=keys.detach(),
    )


def multihead(
    layer: MultiheadExternalAttention,
    query: Tensor,
    query_pos: Tensor | None,
    ignored: Tensor | None,
    grid: Grid | None,
) -> AttentionMaps:
    """All heads and slots over the tokens, on the grid that they fill."""
    tokens = query if query_pos is None else query + query_pos
    if not layer.batch_first:
        tokens = tokens.transpose(0, 1)  # (B, N, C)
    if ignored is not None:
        tokens = tokens.masked_fill(ignored.unsqueeze(2), 0)
    number = tokens.shape[1]
    if layer.deployed:
        keys, wide = layer.deployed_key, widen(tokens).unsqueeze(1)
    else:
        keys, wide = layer.key_memory, widen(layer.in_proj(tokens))
        wide = wide.unflatten(2, (-1, keys.shape[1])).transpose(1, 2)
    # Of (B, heads or 1, N, D or C).
    logits = keys.to(wide.dtype) @ wide.mT  # (B, heads, S, N)
    heads = logits.shape[1]
    # The key bias moves a slot's logits alike, which the softmax ignores.
    flat = logits.flatten(0, 1)
    valid = None if ignored is None else ~ignored
    rows = None if valid is None else valid.repeat_interleave(heads, 0)
    size, skipped = _find_grid(number, grid)

    def lay(maps: Tensor) -> Tensor:
        maps = maps.unflatten(0, (-1, heads))[..., skipped:]
        return maps.unflatten(3, size or (1, number))

    return AttentionMaps(
        type(layer).__name__,
        attention=lay(double_norm(flat, eps=layer.eps, mask=rows)),
        token_softmax=lay(masked_softmax(flat, rows)),
        keys=keys.detach(),
        mask=None
        if valid is None
        else valid[:, skipped:].unflatten(1, size or (1, number)),
        note='' if size else f'its {number} tokens fill no known grid',
    )


def _find_grid(number: int, grid: Grid | None) -> tuple[Grid | None, int]:
    """Find rows and columns of the tokens, and those before them (0 or 1)."""
    # A class token, where there is one, is the first.
    for skipped in (0, 1):
        left = number - skipped
        if grid is None:
            side = round(left**0.5)
            sizes = [(side, side)]
        else:
            sizes = [
                (-(-grid[0] // stride), -(-grid[1] // stride))
                for stride in range(1, max(grid) + 1)
            ]
        for rows, columns in sizes:
            if rows * columns == left > 0:
                return (rows, columns), skipped
    return None, 0


def efficient(
    layer: EfficientAttention2d,
    x: Tensor,
    mask: Tensor | None,
    pixel: tuple[int, int],
) -> dict:
    """Key channels as slots; what a pixel gathers through all of them."""
    query, key = (
        heads_of(proj(x), layer.num_heads).flatten(3)
        for proj in (layer.query_proj, layer.key_proj)
    )  # (B, h, D, N)
    valid = None if mask is None else mask.flatten(1)[:, None]
    query, key = query.softmax(2), masked_softmax(key, valid)
    place = pixel[0] * x.shape[3] + pixel[1]
    reads = (query[..., place].unsqueeze(2) @ key).squeeze(2)  # (B, h, N)
    if valid is not None:
        query = query * valid.unsqueeze(1)
    return dict(
        # Each head shares out 1, all together as well.
        attention=query.flatten(1, 2).unflatten(2, x.shape[2:])
        / layer.num_heads,
        token_softmax=key.flatten(1, 2).unflatten(2, x.shape[2:]),
        pixel=pixel,
        reads=reads.unflatten(2, x.shape[2:]),
    )


def dictionary(
    layer: CATT2d, x: Tensor, mask: Tensor | None, pixel: tuple[int, int]
) -> dict:
    """Words as slots; what a pixel reads in the image, where CATT does."""
    tokens = x.flatten(2).transpose(-2, -1)  # (B, N, C)
    words = layer.dictionary.to(x.dtype)
    path, heads = layer.layer.cross_path, layer.layer.cross_path.num_heads
    query = _split(path.query_proj(tokens), heads)  # (B, h, N, D)
    key = _split(path.key_proj(words), heads)  # (1, h, K, D)
    # Head by head: K maps of all heads at once may be large.
    attention = sum(
        (query[:, h] @ key[:, h].transpose(-2, -1) / query.shape[3] ** 0.5)
        .softmax(2)
        .transpose(-2, -1)
        for h in range(heads)
    )
    attention = (attention / heads).unflatten(2, x.shape[2:])  # (B, K, H, W)
    if mask is not None:
        attention = attention * mask.unsqueeze(1)
    result = dict(attention=attention, keys=layer.dictionary[0].detach())
    if layer.in_sample is None:
        path = layer.layer.in_path or path
        place = pixel[0] * x.shape[3] + pixel[1]
        query = _split(path.query_proj(tokens[:, place : place + 1]), heads)
        key = _split(path.key_proj(tokens), heads)
        logits = (query @ key.transpose(-2, -1)).squeeze(2)  # (B, h, N)
        valid = None if mask is None else mask.flatten(1)[:, None]
        reads = masked_softmax(logits / query.shape[3] ** 0.5, valid)
        result.update(pixel=pixel, reads=reads.unflatten(2, x.shape[2:]))
    return result


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, h, N, D)."""
    return widen(x).unflatten(2, (heads, -1)).transpose(1, 2)
