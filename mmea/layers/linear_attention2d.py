from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmea.ops import without_autocast

from ._checks import check_choice, check_flags, check_positive
from .attention_block2d import AttentionBlock2d

__all__ = ['LinearAttention2d']

_MODES = ('position', 'channel', 'dual')


class LinearAttention2d(AttentionBlock2d):
    """Linear attention of MANet (LAM): similarity 1 + cos, not exp.

    The weight of key j for token i is ``1 + q_i . k_j``, with q and k of
    length 1: the exponential's Taylor series to the first order. The sums
    over the keys are formed once for all tokens, so that cost is linear in
    their number. ``attend(x) = gamma * attention``, with one number gamma.

    * ``position``: tokens are the pixels; queries, keys and values are 1x1
      convolutions.
    * ``channel``: tokens are the channels, which are their own queries, keys
      and values; gamma is the only parameter.
    * ``dual``: the sum of both, each with its gamma.

    As it is by default, gamma starts at zero, as published.

    Args:
        in_channels (int): Channels C, in and out.
        mode (str): One of the three above. Default: 'position'.
        reduction (int): Queries and keys have max(C // reduction, 1)
            channels. Default: 8.
        compat (bool): Compute the channel attention as the published code
            does, whose weights do not sum to 1: it normalises over the
            channels of each pixel instead of the pixels of each channel, has
            the roles of keys and values swapped, and adds the number of
            pixels where the formula has the number of channels. Default:
            False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W), any H and W; ``out_proj.gamma`` is (1),
        in mode 'dual' (2), position first.

    Raises:
        ValueError: A size is below 1, or ``mode`` is unknown.

    Example:
        >>> import torch
        >>> from mmea import LinearAttention2d
        >>> layer = LinearAttention2d(64, mode='dual')
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:2007.14902; gamma, the 1e-6 and initialisation (torch's
    default of the convolutions) from the authors' code, which has no dual
    form.
    """

    _abbr_ = 'linear_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        mode: str = 'position',
        reduction: int = 8,
        compat: bool = False,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        check_positive(reduction=reduction)
        check_choice('mode', mode, _MODES)
        check_flags(compat=compat)
        self.mode = mode
        self.compat = compat
        if mode != 'channel':
            channels = max(in_channels // reduction, 1)
            self.query_proj = nn.Conv2d(in_channels, channels, 1)
            self.key_proj = nn.Conv2d(in_channels, channels, 1)
            self.value_proj = nn.Conv2d(in_channels, in_channels, 1)
        self.out_proj = _WeightedSum(2 if mode == 'dual' else 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            if isinstance(module, (nn.Conv2d, _WeightedSum)):
                module.reset_parameters()
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = mask.flatten(1).unsqueeze(1)  # (B, 1, N)
        outs = []
        # Sums over all tokens, which half precision might not hold.
        if self.mode != 'channel':
            query, key, value = (
                _widen(proj(x))
                for proj in (self.query_proj, self.key_proj, self.value_proj)
            )
            with without_autocast(x):
                outs.append(_read_pixels(query, key, value, mask))
        if self.mode != 'position':
            with without_autocast(x):
                read = _read_channels_compat if self.compat else _read_channels
                outs.append(read(_widen(x), mask))
        out = self.out_proj(outs).to(x.dtype)
        return out.unflatten(2, x.shape[2:])

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, mode={self.mode!r}, compat={self.compat}'
        )


class _WeightedSum(nn.Module):
    """One number for each of some tensors."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(number))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.gamma)

    def forward(self, tensors: list[Tensor]) -> Tensor:
        return sum(g * tensor for g, tensor in zip(self.gamma, tensors))


def _read_pixels(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """(B, D, N), (B, D, N), (B, C, N) to (B, C, N)."""
    query, key = _normalise(query, 1), _normalise(key, 1)
    if mask is not None:
        key, value = key.masked_fill(~mask, 0), value.masked_fill(~mask, 0)
    number = _count(value, mask)
    above = (
        value.sum(2, keepdim=True) + (value @ key.transpose(-2, -1)) @ query
    )
    keys = key.sum(2, keepdim=True) + 1e-6  # (B, D, 1)
    # Weights are at least 0, and so is their sum; but all keys of a token
    # may be the opposite of its query.
    below = (number + (query * keys).sum(1, keepdim=True)).clamp(min=1e-6)
    return above / below


def _read_channels(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C, N) to the same. Padding is zero, and adds nothing."""
    rows = _normalise(x, 2)
    weights = 1 + rows @ rows.transpose(
        -2, -1
    )  # (B, C, C), of length-1 rows: 0 to 2
    return (weights @ x) / weights.sum(2, keepdim=True)


def _read_channels_compat(x: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the same as the published code has it."""
    pixels = _normalise(x, 1)
    above = x.sum(1, keepdim=True) + (x @ pixels.transpose(-2, -1)) @ pixels
    sums = pixels.sum(1, keepdim=True) + 1e-6  # (B, 1, N)
    below = _count(x, mask) + (pixels * sums).sum(2, keepdim=True)
    return above / below


def _count(x: Tensor, mask: Tensor | None) -> 'int | Tensor':
    """Count the valid tokens of each image, at least 1."""
    if mask is None:
        return x.shape[2]
    return mask.sum(2, keepdim=True).clamp(min=1)


def _normalise(x: Tensor, dim: int) -> Tensor:
    """Length 1; a zero vector stays, and gets a finite gradient."""
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / length.masked_fill(length == 0, 1)


def _widen(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, N) in float32 or more."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2)
