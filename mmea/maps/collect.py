import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from mmea import layers

from . import pixels, slots
from .result import AttentionMaps

__all__ = ['attention_maps']

Pixel = tuple[int, int] | tuple[float, float]

#: What a pixel reads, by the kind of a member.
_READS: dict[type, Callable[..., Tensor]] = {
    layers.ELSA2d: pixels.elsa,
    layers.HaloAttention2d: pixels.halo,
    layers.LinearAttention2d: pixels.linear,
    layers.NonLocal2d: pixels.non_local,
    layers.OutlookAttention2d: pixels.outlook,
    layers.SelfAttention2d: pixels.self_attention,
    layers.StandAloneAttention2d: pixels.stand_alone,
}
#: Members of which nothing is drawn, and why.
_NOTES: dict[type[nn.Module], str] = {
    layers.CATTLayer: 'the maps are those of its CATT2d, if it is in one',
    layers.CaaMAttention: 'its tokens read tokens, on no known grid',
    layers.CaaMPair2d: 'the map is that of its gate',
    layers.OffsetAttention1d: 'its points lie on no grid',
    layers.StandAloneStem2d: 'its pixels read the few in their block alone',
}


def attention_maps(
    module: nn.Module,
    *inputs: Any,
    forward: Callable[..., Any] | None = None,
    pixel: Pixel = (0.5, 0.5),
    grid: tuple[int, int] | None = None,
) -> dict[str, tuple[AttentionMaps, ...]]:
    """Run a module, and tell what each member of the family in it looks at.

    The pass is one of inference: in eval mode and without gradients. Modes,
    gradients and torch's random state are afterwards as they were, whether it
    ends well or not. The maps are computed beside the pass, from what the
    members get, at a cost linear in the number of tokens.

    Args:
        module (nn.Module): A member, or a model that holds some.
        inputs (Any): What it is called with.
        forward (Callable | None): Is called with ``inputs`` in the place of
            ``module``, such as ``model.test_step``. Default: None.
        pixel (tuple): Row and column of the token whose reading is told where
            tokens read tokens: floats are fractions of the map, from 0 to 1,
            ints are places on it. Default: the centre.
        grid (tuple[int, int] | None): Rows and columns of the tokens of
            :class:`~mmea.layers.MultiheadExternalAttention`, or those of the
            image that they cover; a class token in front is left out.
            Default: None, a square.

    Returns:
        dict[str, tuple[AttentionMaps, ...]]: By the name of the member in
        ``module`` (``''`` for itself), one for each call in the pass, in
        their order; none of a member that was not called.

    Raises:
        ValueError: ``pixel`` or ``grid`` is none, or off the map.

    Example:
        >>> import torch, mmea
        >>> layer = mmea.ExternalAttention2d(64, num_slots=16)
        >>> maps = mmea.attention_maps(layer, torch.randn(2, 64, 7, 5))
        >>> (seen,) = maps['']
        >>> seen.attention.shape
        torch.Size([2, 16, 7, 5])
        >>> torch.allclose(seen.shares.sum(1), torch.ones(2), atol=1e-5)
        True
    """
    _check(pixel, grid)
    found: dict[str, list[AttentionMaps]] = {}
    handles = []
    for name, part in module.named_modules():
        if isinstance(part, _MEMBERS):
            found[name] = []
            hook = partial(_note, found[name], pixel, grid)
            handles.append(part.register_forward_hook(hook, with_kwargs=True))
    try:
        with _in_use(module):
            (forward or module)(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: tuple(calls) for name, calls in found.items()}


_MEMBERS: tuple[type[nn.Module], ...] = (
    layers.AttentionBlock2d,
    layers.MultiheadExternalAttention,
    *_NOTES,
)


def _check(pixel: Any, grid: Any) -> None:
    for name, pair in (('pixel', pixel), ('grid', grid)):
        kind = (int, float) if name == 'pixel' else int
        if (name, pair) != ('grid', None) and not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(isinstance(p, kind) and p >= 0 for p in pair)
        ):
            raise ValueError(f'{name} must be (row, column), got {pair!r}')


def _overwrites(part: nn.Module) -> TypeGuard[layers.ExternalAttention2d]:
    return isinstance(part, layers.ExternalAttention2d) and part.inplace


@contextmanager
def _in_use(module: nn.Module) -> Iterator[None]:
    """Put a module into the state of inference, for a while."""
    modes = {part: part.training for part in module.modules()}
    # The maps are made of a layer's input when it has run.
    overwriting = [part for part in modes if _overwrites(part)]
    devices = {p.device.index for p in module.parameters() if p.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(list(devices)):
        try:
            # Not by eval(), which some networks override.
            for part in modes:
                part.training = False
            for part in overwriting:
                part.inplace = False
            yield
        finally:
            for part in overwriting:
                part.inplace = True
            for part, mode in modes.items():
                part.training = mode


def _note(
    calls: list[AttentionMaps],
    pixel: Pixel,
    grid: tuple[int, int] | None,
    layer: nn.Module,
    args: tuple,
    kwargs: dict,
    output: Any,
) -> None:
    """Compute the maps of a call that has just ended: a forward hook."""
    call = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
    if isinstance(layer, layers.MultiheadExternalAttention):
        calls.append(
            slots.multihead(
                layer,
                call['query'],
                call.get('query_pos'),
                call.get('key_padding_mask'),
                grid,
            )
        )
        return
    for kind, note in _NOTES.items():
        if isinstance(layer, kind):
            calls.append(AttentionMaps(type(layer).__name__, note=note))
            return
    calls.append(_of_block(layer, call['x'], call.get('mask'), pixel))


def _of_block(
    layer: Any, x: Tensor, mask: Tensor | None, pixel: Pixel
) -> AttentionMaps:
    if mask is None:
        mask = layer.find_mask(x)
    if mask is not None:
        x = x.masked_fill(~mask.unsqueeze(1), 0)
    seen = partial(AttentionMaps, type(layer).__name__, mask=mask)
    if isinstance(layer, layers.ExternalAttention2d):
        return seen(**slots.external(layer, x, mask))
    if isinstance(layer, layers.CBAMGate2d):
        gate, channel_gate = layer.gates(x, mask)
        return seen(gate=gate[:, 0], channel_gate=channel_gate[..., 0, 0])
    if getattr(layer, 'mode', None) == 'channel':
        return seen(note='its channels read channels, not pixels')
    place = _place(pixel, x)
    if isinstance(layer, layers.EfficientAttention2d):
        return seen(**slots.efficient(layer, x, mask, place))
    if isinstance(layer, layers.CATT2d):
        return seen(**slots.dictionary(layer, x, mask, place))
    for kind, read in _READS.items():
        if isinstance(layer, kind):
            return seen(pixel=place, reads=read(layer, x, mask, place))
    return seen(note='a layer that mmea does not know')


def _place(pixel: Pixel, x: Tensor) -> tuple[int, int]:
    """Turn fractions to places on the map."""
    row, column = (
        min(int(p * size), size - 1) if isinstance(p, float) and p <= 1 else p
        for p, size in zip(pixel, x.shape[2:])
    )
    if not (
        isinstance(row, int)
        and isinstance(column, int)
        and row < x.shape[2]
        and column < x.shape[3]
    ):
        raise ValueError(
            f'pixel must be fractions from 0 to 1, or ints on the map of '
            f'{x.shape[2]} x {x.shape[3]}, got {pixel}'
        )
    return row, column
