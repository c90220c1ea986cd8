from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmea.ops import is_traced, is_transformed, local_sum, slide

from ._checks import (
    check_flags,
    check_int,
    check_multiple,
    check_number,
    check_odd,
    check_positive,
    pick_heads,
)
from .attention_block2d import AttentionBlock2d

__all__ = ['ELSA2d']


class ELSA2d(AttentionBlock2d):
    """Enhanced local self-attention: Hadamard attention and a ghost head.

    The weights of the K x K window come from no product of queries with
    keys, but from two convolutions of their element-wise product:
    ``a = softmax(attn_proj(gelu(attn_conv(scale * q * k))))``, one softmax
    over the window for each head and token. The ghost head, learned numbers
    for each channel and offset, makes a filter for each channel of them:
    ``f = scale_head**lam * a + gamma * shift_head``. Then ``attend(x) =
    out_proj(sum over the window of f v)``.

    As it is by default, it is the form of ELSA-Swin.

    Args:
        in_channels (int): Channels C, in and out.
        kernel_size (int): K, odd. Default: 7.
        num_heads (int | None): A divisor of ``in_channels``. Default: None,
            the largest up to 8.
        group_width (int): Channels of a group of ``attn_conv``. Default: 8.
        key_channels (int | None): Width of queries and keys, a multiple of
            ``group_width``. Default: None, ``C // 3 * 2`` rounded up to such
            a multiple.
        lam (int): Exponent of the ghost head's factor, 0 or more; 0 leaves
            the factor out. Default: 0.
        gamma (float): Weight of the ghost head's addend; 0 leaves it out.
            Default: 1.
        qk_scale (float | None): Of the product; None is (C / heads)^-0.5.
            Default: 1.
        qkv_bias (bool): Default: True.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``ghost_head`` is (n, C, K, K): the
        factor, where ``lam`` is not 0, then the addend, where ``gamma`` is
        not 0.

    Raises:
        ValueError: A size is out of its range, ``kernel_size`` is even, or
            a divisor does not divide.

    Example:
        >>> import torch
        >>> from mmea import ELSA2d
        >>> layer = ELSA2d(64, kernel_size=5)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:2112.12786; widths, scale and initialisation from the
    authors' code.
    """

    _abbr_ = 'elsa2d'
    entry = 'qkv_proj'

    def __init__(
        self,
        in_channels: int,
        *,
        kernel_size: int = 7,
        num_heads: int | None = None,
        group_width: int = 8,
        key_channels: int | None = None,
        lam: int = 0,
        gamma: float = 1.0,
        qk_scale: float | None = 1.0,
        qkv_bias: bool = True,
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
        check_positive(num_heads=num_heads, group_width=group_width)
        if key_channels is None:
            key_channels = max(in_channels // 3 * 2, 1)
            key_channels += -key_channels % group_width
        check_positive(key_channels=key_channels)
        check_multiple(dict(num_heads=num_heads), in_channels=in_channels)
        check_multiple(
            dict(group_width=group_width), key_channels=key_channels
        )
        # The factor has negative numbers, which have no broken powers.
        check_int(0, lam=lam)
        check_number(gamma=gamma)
        if qk_scale is not None:
            check_number(qk_scale=qk_scale)
        check_flags(qkv_bias=qkv_bias)
        self.kernel_size = kernel_size
        self.num_heads = num_heads
        self.key_channels = key_channels
        self.lam = lam
        self.gamma = gamma
        self.qk_scale = qk_scale
        if qk_scale is None:
            self.qk_scale = (in_channels / num_heads) ** -0.5
        self.qkv_proj = nn.Conv2d(
            in_channels, 2 * key_channels + in_channels, 1, bias=qkv_bias
        )
        self.attn_conv = nn.Conv2d(
            key_channels,
            key_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=key_channels // group_width,
        )
        self.attn_proj = nn.Conv2d(key_channels, num_heads * kernel_size**2, 1)
        number = (lam != 0) + (gamma != 0)
        if number:
            self.ghost_head = nn.Parameter(
                torch.empty(number, in_channels, kernel_size, kernel_size)
            )
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            in_channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (
            self.qkv_proj,
            self.attn_conv,
            self.attn_proj,
            self.out_proj,
        ):
            conv.reset_parameters()
        if self.lam:
            nn.init.normal_(self.ghost_head[0])
        if self.gamma:
            nn.init.normal_(self.ghost_head[-1], std=0.02)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.qkv_proj(x).split(
            [self.key_channels, self.key_channels, self.in_channels], 1
        )
        pairs = query * key * self.qk_scale
        if mask is not None:
            # As beyond the border, where a bias does not reach.
            pairs, value = (y * mask.unsqueeze(1) for y in (pairs, value))
        attn = self.attn_proj(F.gelu(self.attn_conv(pairs)))
        attn = attn.unflatten(1, (self.num_heads, -1))  # (B, h, K^2, H, W)
        full = torch.promote_types(attn.dtype, torch.float32)
        attn = attn.to(full).softmax(2).to(value.dtype).movedim(2, 4)
        attn = attn.unflatten(4, (self.kernel_size, -1))  # (B, h, H, W, K, K)
        heads = value.unflatten(1, (self.num_heads, -1))  # (B, h, D, H, W)
        if self.lam:
            out = self._scaled_sum(attn, heads)
        else:
            out = local_sum(attn, heads)
        out = out.flatten(1, 2)
        if self.gamma:
            # The addend is the same at every token: a convolution.
            addend = self.ghost_head[-1].unsqueeze(1) * self.gamma
            out = out + F.conv2d(
                value,
                addend.to(value.dtype),
                padding=self.kernel_size // 2,
                groups=self.in_channels,
            )
        return self.out_proj(out)

    def _scaled_sum(self, attn: Tensor, value: Tensor) -> Tensor:
        """Sum the window with a factor for each channel.

        Row by row of the window: K products of each value at a time. They
        are made again in the backward pass, or it would keep K^2.
        """
        factor = (self.ghost_head[0] ** self.lam).to(value.dtype)
        factor = factor.unflatten(0, (self.num_heads, -1))  # (h, D, K, K)
        value = F.pad(value, 4 * (self.kernel_size // 2,))
        out: Any = 0
        watched = is_traced() or is_transformed()
        for row in range(self.kernel_size):
            args = (
                value[..., row : row + attn.shape[2], :],
                factor[:, :, None, None, row],
                attn[..., row, :].unsqueeze(2),
            )
            if torch.is_grad_enabled() and not watched:
                part = checkpoint(_sum_row, *args, use_reentrant=False)
            else:
                part = _sum_row(*args)
            out = out + part
        return out

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, kernel_size={self.kernel_size}, '
            f'num_heads={self.num_heads}, lam={self.lam}, gamma={self.gamma}'
        )


def _sum_row(rows: Tensor, factor: Tensor, attn: Tensor) -> Tensor:
    """One row of the windows of all tokens, rows padded at their ends."""
    windows = slide(rows, -1, attn.shape[-1])  # (B, h, D, H, W, K)
    return (windows * factor * attn).sum(-1)
