"""Values of a part that have another shape or order here.

Each function takes the state_dict of one part under our names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    'finish_elsa',
    'finish_elsa_swin',
    'finish_halonet',
    'finish_sagan',
    'finish_timm_halo',
    'linear_to_conv',
    'linears_to_convs',
    'reshape',
]


def reshape(name: str, value: Tensor) -> Tensor:
    """Give a value the shape that all parts have under this name of ours."""
    # A memory is a 1x1 Conv1d there, (out, in, 1); here it is (S, C).
    if name.endswith('key_memory'):
        return value.reshape(value.shape[:2])
    if name.endswith('value_memory'):
        return value.reshape(value.shape[:2]).t().contiguous()
    if name.endswith('pair_weight'):
        return value.reshape(2, -1)
    # Of all heads, (D / 2, K) or, channel by channel, with axes of size 1.
    if name.endswith('_tables') and value.dim() != 3:
        return value.reshape(1, len(value), -1)
    if name.endswith('num_batches_tracked'):
        return value.reshape(())
    return value


def linear_to_conv(
    part: dict[str, Tensor], end: str = 'out_proj.weight'
) -> dict[str, Tensor]:
    """Make linear layers 1x1 convolutions."""
    return {
        name: value[:, :, None, None]
        if name.endswith(end) and value.dim() == 2
        else value
        for name, value in part.items()
    }


def linears_to_convs(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make every projection of an attention a 1x1 convolution."""
    return linear_to_conv(part, '_proj.weight')


def finish_halonet(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take apart all keys, then all values, in one layer."""
    part = linears_to_convs(part)
    if 'kv_proj.weight' in part:
        key, value = part.pop('kv_proj.weight').unflatten(0, (2, -1))
        part |= {'key_proj.weight': key, 'value_proj.weight': value}
    return part


def finish_timm_halo(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take apart keys and values of each head in turn, in one layer."""
    new = {}
    for name, value in part.items():
        if not name.startswith('kv_proj.'):
            new[name] = value
            continue
        kind = name.removeprefix('kv_proj.')
        if not {'query_proj.weight', 'row_table'} <= part.keys():
            raise ValueError(
                f"'kv.{kind}' holds the keys and values of each head in turn; "
                "to tell the heads, 'q.weight' and 'pos_embed.height_rel' "
                'must be there too'
            )
        width = part['row_table'].shape[1]
        heads = len(part['query_proj.weight']) // width
        value = value.unflatten(0, (heads, -1))
        new[f'key_proj.{kind}'] = value[:, :width].flatten(0, 1)
        new[f'value_proj.{kind}'] = value[:, width:].flatten(0, 1)
    return new


def finish_elsa(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop an axis of size 1 of two ghost heads."""
    return {
        name: value.squeeze(1)
        if name.endswith('ghost_head') and value.dim() == 5
        else value
        for name, value in linear_to_conv(part).items()
    }


def finish_sagan(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn embeddings of classes into linear layers of one-hot labels."""
    new = {}
    for name, value in part.items():
        if '_embedding.' in name:
            name = name.replace('_embedding.', '.')
            if name.endswith(('.0.u', '.0.v')):  # of the transposed matrix
                name = name[:-1] + dict(u='v', v='u')[name[-1]]
            elif value.dim() == 2:
                value = value.t().contiguous()
        new[name] = value
    return new


def finish_elsa_swin(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put windows and merged patches into the order of OpenMMLab's Swin.

    Theirs are values, queries, keys; offsets from query to key, not back; a
    square of four patches by columns, not by rows, and channels last.
    """
    new = {}
    for name, value in finish_elsa(part).items():
        if '.w_msa.qkv.' in name:
            value = value.unflatten(0, (3, -1)).roll(-1, 0).flatten(0, 1)
        elif name.endswith('relative_position_bias_table'):
            value = value.flip(1).t().contiguous()
        elif name.endswith('relative_position_index'):
            value = value.reshape(2 * [math.isqrt(value.numel())]).t()
        elif '.downsample.' in name:
            value = value.unflatten(-1, (2, 2, -1)).transpose(-3, -2)
            value = value.flatten(-3, -2).transpose(-2, -1).flatten(-2)
        new[name] = value
    return new
