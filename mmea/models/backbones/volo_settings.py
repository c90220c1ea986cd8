"""Sizes of VOLO, and checks of them."""

from collections.abc import Sequence
from typing import Any

from mmea.layers._checks import check_indices, check_multiple, check_positive

__all__ = ['ARCHS', 'BY_STRIDE', 'NUM_STAGES', 'check_arch', 'check_stages']

#: Blocks of the four stages; the rest at stride 8, then at stride 16.
ARCHS: dict[str, dict[str, Any]] = {
    name: dict(
        num_layers=layers,
        embed_dims=dims,
        num_heads=heads,
        feedforward_channels=tuple(ratio * width for width in dims),
        stem_channels=stem,
    )
    for name, layers, dims, heads, ratio, stem in (
        ('d1', (4, 4, 8, 2), (192, 384), (6, 12), 3, 64),
        ('d2', (6, 4, 10, 4), (256, 512), (8, 16), 3, 64),
        ('d3', (8, 8, 16, 4), (256, 512), (8, 16), 3, 64),
        ('d4', (8, 8, 16, 4), (384, 768), (12, 16), 3, 64),
        ('d5', (12, 12, 20, 4), (384, 768), (12, 16), 4, 128),
    )
}
#: Of stride 8 and of stride 16.
BY_STRIDE = ('embed_dims', 'num_heads', 'feedforward_channels')
NUM_STAGES = 4


def check_arch(arch: str | dict) -> dict[str, Any]:
    """Return the sizes of an arch, or raise a ValueError."""
    sizes = ARCHS.get(arch) if isinstance(arch, str) else arch
    keys = ', '.join(ARCHS['d1'])
    if not isinstance(sizes, dict) or sizes.keys() != ARCHS['d1'].keys():
        raise ValueError(
            f'arch must be one of {", ".join(ARCHS)} or a dict of {keys}, '
            f'got {arch=}'
        )
    lengths = dict(dict.fromkeys(BY_STRIDE, 2), num_layers=NUM_STAGES)
    for name, length in lengths.items():
        numbers = sizes[name]
        if not isinstance(numbers, (list, tuple)) or len(numbers) != length:
            raise ValueError(
                f'arch[{name!r}] must be {length} numbers, got {numbers!r}'
            )
        check_positive(
            **{f'arch[{name!r}][{i}]': n for i, n in enumerate(numbers)}
        )
    check_positive(**{"arch['stem_channels']": sizes['stem_channels']})
    for width, heads in zip(sizes['embed_dims'], sizes['num_heads']):
        check_multiple({"arch['num_heads']": heads}, embed_dims=width)
    return sizes


def check_stages(
    out_indices: Sequence[int] | None, out_type: str
) -> tuple[int, ...]:
    """Return the stages, the last one where no maps are returned.

    Or raise a ValueError.
    """
    if out_type != 'featmap':
        if out_indices is not None:
            raise ValueError(
                f"out_indices are of out_type='featmap', got {out_indices=} "
                f'with {out_type=}; leave them out'
            )
        return (NUM_STAGES - 1,)
    found = check_indices((0, 3) if out_indices is None else out_indices)
    if not found or list(found) != sorted({*found} & {*range(NUM_STAGES)}):
        raise ValueError(
            f'out_indices must list stages from 0 to {NUM_STAGES - 1}, each '
            f'once, in ascending order, got {out_indices=}'
        )
    return found
