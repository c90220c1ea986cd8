from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.ops import from_blocks, pad_to_blocks, to_windows, turn

from ._checks import (
    check_flags,
    check_multiple,
    check_odd,
    check_positive,
    pick_heads,
)
from .attention_block2d import AttentionBlock2d

__all__ = ['OutlookAttention2d']


class OutlookAttention2d(AttentionBlock2d):
    """Outlook attention: a token tells how those around it read each other.

    Around every s-th token of every s-th row lies a window of K x K tokens.
    One linear layer makes K^2 x K^2 logits for each head of D channels, of
    the mean of the s x s tokens of which its centre is the first;
    ``softmax(logits / sqrt(D))``, over the tokens that are read, weighs the
    values of the window. A token sums what it gets in all windows that it is
    in. No query meets a key.

    Args:
        in_channels (int): Channels C, in and out.
        kernel_size (int): K, odd. Default: 3.
        window_stride (int): s, from window to window. The output keeps the
            size of the input. With s > K // 2 + 1 tokens may be in no window
            and get nothing. Default: 2.
        num_heads (int | None): A divisor of ``in_channels``. Default: None,
            the largest up to 8.
        value_bias (bool): Default: False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W), of any size; ``attn_proj`` has heads
        K^4 outputs: heads, then who reads, then what is read, rows first.

    Raises:
        ValueError: A size is below 1, ``kernel_size`` is even, or
            ``num_heads`` does not divide ``in_channels``.

    Example:
        >>> import torch
        >>> from mmea import OutlookAttention2d
        >>> layer = OutlookAttention2d(64)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:2106.13112; mean, scale and initialisation (N(0, 0.02^2),
    truncated, biases zero) from the authors' code.
    """

    _abbr_ = 'outlook_attention2d'
    entry = 'value_proj'

    def __init__(
        self,
        in_channels: int,
        *,
        kernel_size: int = 3,
        window_stride: int = 2,
        num_heads: int | None = None,
        value_bias: bool = False,
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
        if num_heads is None:
            num_heads = pick_heads(in_channels)
        check_odd(kernel_size=kernel_size)
        check_positive(window_stride=window_stride, num_heads=num_heads)
        check_multiple(dict(num_heads=num_heads), in_channels=in_channels)
        check_flags(value_bias=value_bias)
        self.kernel_size = kernel_size
        self.window_stride = window_stride
        self.num_heads = num_heads
        self.value_proj = nn.Conv2d(
            in_channels, in_channels, 1, bias=value_bias
        )
        self.attn_proj = nn.Conv2d(in_channels, num_heads * kernel_size**4, 1)
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            in_channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (self.value_proj, self.attn_proj, self.out_proj):
            nn.init.trunc_normal_(conv.weight, std=0.02)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        value = self.value_proj(x)
        if mask is not None:
            # As beyond the border, where a bias does not reach.
            value = value * mask.unsqueeze(1)
        windows = to_windows(
            value.unflatten(1, (self.num_heads, -1)),
            self.window_stride,
            self.kernel_size // 2,
        )[..., : self.kernel_size, : self.kernel_size]
        attn = self._weigh(x, mask).to(value.dtype)
        out = windows.flatten(5) @ turn(attn)  # (B, h, nH, nW, D, K^2)
        if mask is not None:
            # A window around padding is one that a crop would not have.
            step = self.window_stride
            centres = mask[:, None, ::step, ::step, None, None]
            out = out * centres
        out = out.unflatten(5, (self.kernel_size, -1))
        return self.out_proj(self._fold(out, x).flatten(1, 2))

    def _weigh(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax in float32 or more: (B, h, nH, nW, K^2, K^2)."""
        if mask is None:
            valid = torch.ones_like(x[:1, :1])
        else:
            valid = mask.unsqueeze(1).to(x.dtype)
        total, share = (
            pad_to_blocks(part, 2, self.window_stride).sum((3, 5))
            for part in (x, valid)
        )
        logits = self.attn_proj(total / share.clamp(min=1))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = logits.unflatten(
            1, (self.num_heads, self.kernel_size**2, self.kernel_size**2)
        ).permute(0, 1, 4, 5, 2, 3)
        width = self.in_channels // self.num_heads
        return (logits * width**-0.5).softmax(-1)

    def _fold(self, out: Tensor, x: Tensor) -> Tensor:
        """Add windows up where they overlap, to (B, h, D, H, W).

        A window is cut into blocks of s x s; its block a is added to block a
        of those that begin at the corner of the first window.
        """
        step, border = self.window_stride, self.kernel_size // 2
        # The last window has to reach the end of the map, if with zeros.
        blocks = 1 + -(-max(border, self.kernel_size - step) // step)
        for dim in (5, 6):
            rest = blocks * step - self.kernel_size
            behind = (0, 0) * (6 - dim)
            out = F.pad(out, (*behind, 0, rest)).unflatten(dim, (-1, step))
            out = _add_shifted(out, dim, dim - 3)
        height, width = x.shape[2:]
        out = from_blocks(out, height + border, width + border)
        return out[..., border:, border:]

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, kernel_size={self.kernel_size}, '
            f'window_stride={self.window_stride}, num_heads={self.num_heads}'
        )


def _add_shifted(x: Tensor, dim: int, place: int) -> Tensor:
    """Sum over ``dim``, each entry moved along ``place`` by its index."""
    parts = x.unbind(dim)
    last = len(parts) - 1
    behind = (0, 0) * (parts[0].dim() - place - 1)
    out = F.pad(parts[0], (*behind, 0, last))
    for i in range(1, len(parts)):
        out = out + F.pad(parts[i], (*behind, i, last - i))
    return out
