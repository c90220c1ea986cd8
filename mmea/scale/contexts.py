from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmea.layers._checks import check_choice, check_flags, check_number
from mmea.layers._over_tokens import OverTokens
from mmea.ops import TokenStats

from .exchange import Size, answering, find_layers

__all__ = ['collect_token_stats', 'use_token_stats']

NORMALISERS = 'own', 'collected', 'nothing'


@contextmanager
def collect_token_stats(
    model: nn.Module,
    into: MutableMapping[str, TokenStats] | None = None,
    *,
    window: Tensor | None = None,
    decay: float = 1.0,
    pool: bool = False,
    normalise_by: str = 'own',
) -> Iterator[MutableMapping[str, TokenStats]]:
    """Collect the statistics of the tokens that a model's layers see.

    Inside the block, in this thread and for this model alone. Each call of a
    layer merges its own into those of its name; the second call in one run of
    the model (of a layer that several maps share) has the name ``'name#2'``.

    Args:
        model (nn.Module): In eval mode.
        into (MutableMapping | None): What is there already. Default: None,
            nothing.
        window (Tensor | None): bool (H, W) over the input: only tokens inside
            are collected; a map of another size takes the nearest pixels.
            Default: None, all.
        decay (float): What is there counts so much at each call, above 0 to
            1; for frames of a video. Default: 1.
        pool (bool): All images of a batch are one context. Default: False.
        normalise_by (str): What the layers themselves use meanwhile: 'own',
            the statistics of the call, or of a block around this one;
            'collected', all so far, the call's included; 'nothing', so that
            they give NaN, and a layer that gets NaN collects nothing: each
            pass over all pieces of an image completes the layers whose inputs
            are whole, whatever stands before what. Default: 'own'.

    Yields:
        MutableMapping[str, TokenStats]: By the layers' names, ``into`` itself
        where it is given.

    Raises:
        ValueError: The model has no such layer or is in training, a bad
            argument, a window for a layer of sequences, or another number of
            images than before.

    Example:
        >>> import torch
        >>> from mmea import ExternalAttention2d
        >>> from mmea.scale import collect_token_stats, use_token_stats
        >>> layer = ExternalAttention2d(8, zero_init=False).eval()
        >>> x = torch.randn(1, 8, 6, 10)
        >>> with torch.no_grad(), collect_token_stats(layer) as stats:
        ...     whole = layer(x)
        >>> with torch.no_grad(), use_token_stats(layer, stats):
        ...     left = layer(x[..., :4])
        >>> torch.allclose(left, whole[..., :4], atol=1e-5)
        True
    """
    layers = find_layers(model)
    _check_eval(layers)
    check_flags(pool=pool)
    check_number(0, decay=decay)
    if not 0 < decay <= 1:
        raise ValueError(f'decay must be in (0, 1], got {decay=}')
    check_choice('normalise_by', normalise_by, NORMALISERS)
    if window is not None and (
        not isinstance(window, Tensor)
        or (window.dtype, window.dim()) != (torch.bool, 2)
    ):
        raise ValueError(
            'window must be a tensor of bool (H, W), got '
            f'{type(window).__name__} {tuple(window.shape)} of {window.dtype}'
        )
    stats: MutableMapping[str, TokenStats] = {} if into is None else into

    def answer(
        name: str, logits: Tensor, mask: Tensor | None, size: Size
    ) -> TokenStats | None:
        _check_eval(layers, name)
        inside = mask
        if window is not None:
            inside = _inside(name, window, logits, mask, size)
        own = TokenStats.of(logits.detach(), inside)
        if pool:
            own = own.pool()
        # A part without a valid token does not tell whether its inputs are.
        whole = normalise_by != 'nothing' or bool(
            own.max.isfinite().any() and not own.max.isnan().any()
        )
        if whole and name in stats:
            stats[name] = stats[name].to(own.max.device).decay(decay) + own
        elif whole:
            stats[name] = own
        if normalise_by == 'nothing':
            return TokenStats(own.max + torch.nan, own.sum)
        return stats[name] if normalise_by == 'collected' else None

    with answering(model, answer):
        yield stats


@contextmanager
def use_token_stats(
    model: nn.Module, stats: Mapping[str, TokenStats]
) -> Iterator[None]:
    """Let a model's layers normalise by given statistics.

    Inside the block, in this thread and for this model alone. Calls that
    ``stats`` has no name for do what a block around this one says, such as
    :func:`collect_token_stats`; without one they take their own.

    Args:
        model (nn.Module): In eval mode.
        stats (Mapping[str, TokenStats]): As of :func:`collect_token_stats`;
            of as many images as the batch, or of one for all.

    Raises:
        ValueError: The model has no such layer or is in training, an unknown
            name, or another number of images or slots.
    """
    layers = find_layers(model)
    _check_eval(layers)
    unknown = [name for name in stats if name.partition('#')[0] not in layers]
    if unknown:
        raise ValueError(
            f'stats must be named as layers of the model, {[*layers]}, got '
            f'{unknown}'
        )

    def answer(
        name: str, logits: Tensor, mask: Tensor | None, size: Size
    ) -> TokenStats | None:
        given = stats.get(name)
        if given is None:
            return None
        _check_eval(layers, name)
        images, slots = logits.shape[:2]
        if tuple(given.max.shape) not in ((images, slots), (1, slots)):
            raise ValueError(
                f'the statistics of {name!r} must be of {images} images, or '
                f'one, and {slots} slots, got {tuple(given.max.shape)}'
            )
        return given.to(logits.device)

    with answering(model, answer):
        yield


def _check_eval(
    layers: Mapping[str, OverTokens], call: str | None = None
) -> None:
    """Refuse a layer in training: any, or that of a call."""
    names = layers if call is None else [call.partition('#')[0]]
    training = [
        name
        for name in names
        if layers[name].training  # type: ignore[attr-defined]
    ]
    if training:
        raise ValueError(
            'statistics are given and taken in eval mode; these layers are in '
            f'training: {training}; call eval()'
        )


def _inside(
    name: str,
    window: Tensor,
    logits: Tensor,
    mask: Tensor | None,
    size: Size,
) -> Tensor:
    """Mark the tokens of a map inside a window of the input, (B, N)."""
    if size is None:
        raise ValueError(
            f'{name!r} has a sequence of tokens, in which a window is nowhere'
        )
    rows, columns = (
        torch.arange(length, device=window.device) * full // length
        for length, full in zip(size, window.shape)
    )
    inside = window[rows][:, columns].flatten().to(logits.device)
    inside = inside.expand(logits.shape[0], -1)
    return inside if mask is None else inside & mask
