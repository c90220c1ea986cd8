from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.ops import (
    is_traced,
    local_logits,
    local_sum,
    neighbours,
    pad_to_blocks,
)

from ._checks import (
    check_choice,
    check_flags,
    check_multiple,
    check_odd,
    check_positive,
    pick_heads,
)
from .attention_block2d import AttentionBlock2d

__all__ = ['StandAloneAttention2d']

_POSITIONS = ('relative', 'absolute', None)


class StandAloneAttention2d(AttentionBlock2d):
    """Stand-alone self-attention: each token reads the K x K around it.

    Per head of D channels, for the token at (i, j) and offsets (y, x) in its
    window, ``softmax(q_ij . (k_(i+y)(j+x) + r_yx))`` weighs the values; r is
    the embedding of the row offset, D // 2 channels, and that of the column
    offset, the rest. No scale by sqrt(D), no bias, no output projection.
    Beyond the border keys and values are zero and stay in the softmax.

    With ``residual=False`` it takes the place of a K x K convolution.

    Args:
        in_channels (int): Channels C in.
        out_channels (int | None): Channels out, of queries, keys and values
            too. Default: None, as ``in_channels``.
        kernel_size (int): K, odd. Default: 7.
        num_heads (int | None): A divisor of ``out_channels``. Default: None,
            the largest up to 8.
        stride (int): Averages s x s outputs after attention at stride 1; a
            map of any size, ceil(H / s) x ceil(W / s). Default: 1.
        position (str | None): 'relative', as above; 'absolute': sines and
            cosines of the token's row (half of the channels) and column are
            added to the tokens that make queries and keys, and r is left out;
            None: neither. Default: 'relative'.
        share_tables (bool): One table r for all heads. Default: False.
        channelwise (bool): A softmax for every channel by itself, without
            the sum over the channels of a head; half of all channels see row
            offsets, half column offsets. It is what a much used
            implementation computes, not the paper's operator. ``num_heads``
            has no effect. Default: False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`. The last layer is ``value_proj``.

    Shapes:
        (B, C, H, W) to (B, C_out, H_out, W_out). ``row_tables`` is (heads,
        D // 2, K), ``column_tables`` (heads, D - D // 2, K); heads is 1 with
        ``share_tables``, and with ``channelwise``, where D is C_out.

    Raises:
        ValueError: A size is below 1, ``kernel_size`` is even, ``num_heads``
            does not divide ``out_channels``, ``position`` is unknown, or the
            residual does not fit.

    Example:
        >>> import torch
        >>> from mmea import StandAloneAttention2d
        >>> layer = StandAloneAttention2d(
        ...     64, out_channels=128, stride=2, residual=False
        ... )
        >>> layer(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 128, 4, 3])

    Source: arXiv:1906.05909. Initialisation: projections Kaiming, fan out, as
    in the implementation that ``channelwise`` follows; tables N(0, 1 / D).
    """

    _abbr_ = 'stand_alone_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        out_channels: int | None = None,
        kernel_size: int = 7,
        num_heads: int | None = None,
        stride: int = 1,
        position: str | None = 'relative',
        share_tables: bool = False,
        channelwise: bool = False,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels=out_channels,
            stride=stride,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        channels = self.out_channels
        if num_heads is None:
            num_heads = pick_heads(channels)
        check_odd(kernel_size=kernel_size)
        check_positive(num_heads=num_heads)
        check_multiple(dict(num_heads=num_heads), out_channels=channels)
        check_choice('position', position, _POSITIONS)
        check_flags(share_tables=share_tables, channelwise=channelwise)
        self.kernel_size = kernel_size
        self.num_heads = num_heads
        self.position = position
        self.channelwise = channelwise
        self.query_proj = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.key_proj = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.value_proj = nn.Conv2d(in_channels, channels, 1, bias=False)
        if position == 'relative':
            tables = 1 if share_tables or channelwise else num_heads
            width = channels if channelwise else channels // num_heads
            half = width // 2
            self.row_tables = nn.Parameter(
                torch.empty(tables, half, kernel_size)
            )
            self.column_tables = nn.Parameter(
                torch.empty(tables, width - half, kernel_size)
            )
        self.reset_parameters()

    def zero_init_module(self) -> nn.Module:
        return self.value_proj

    def reset_parameters(self) -> None:
        for conv in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.kaiming_normal_(
                conv.weight, mode='fan_out', nonlinearity='relu'
            )
        if self.position == 'relative':
            # N(0, 1), as that code has it, would outweigh the contents.
            width = self.row_tables.shape[1] + self.column_tables.shape[1]
            for table in (self.row_tables, self.column_tables):
                nn.init.normal_(table, std=width**-0.5)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        placed = x
        if self.position == 'absolute':
            code = _sinusoids(x)
            if mask is not None:
                # Padding stays zero, as what is beyond the border.
                code = code * mask.unsqueeze(1)
            placed = x + code
        heads = self.out_channels if self.channelwise else self.num_heads
        query, key, value = (
            proj(tokens).unflatten(1, (heads, -1))
            for proj, tokens in (
                (self.query_proj, placed),
                (self.key_proj, placed),
                (self.value_proj, x),
            )
        )  # (B, h, D, H, W)
        read = self._read_channels if self.channelwise else self._read_heads
        out = read(query, key, value).flatten(1, 2)
        return out if self.stride == 1 else self._average(out, mask)

    def _read_heads(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        logits = local_logits(query, key, self.kernel_size)
        if self.position == 'relative':
            rows, columns = (
                query.transpose(-2, -1)
                .transpose(2, 4)
                .split(
                    [self.row_tables.shape[1], self.column_tables.shape[1]], 4
                )
            )  # (B, h, H, W, D / 2) each
            rows = rows @ self.row_tables.unsqueeze(1)  # (B, h, H, W, K)
            columns = columns @ self.column_tables.unsqueeze(1)
            logits = logits + rows[..., None] + columns[..., None, :]
        return local_sum(_softmax(logits), value)

    def _read_channels(
        self, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """K^2 weights for each number of the map, as that code has it."""
        keys = neighbours(key, self.kernel_size)  # (B, C, 1, H, W, K, K)
        if self.position == 'relative':
            rows, columns = self.row_tables, self.column_tables
            shift = torch.cat(
                [
                    rows[0, :, :, None].expand(-1, -1, self.kernel_size),
                    columns[0, :, None].expand(-1, self.kernel_size, -1),
                ]
            )  # (C, K, K)
            keys = keys + shift[:, None, None, None]
        attn = _softmax(query[..., None, None] * keys)
        return (attn * neighbours(value, self.kernel_size)).sum((-2, -1))

    def _average(self, out: Tensor, mask: Tensor | None) -> Tensor:
        """Mean of the valid outputs of each s x s square."""
        if mask is not None:
            valid = mask.unsqueeze(1).to(out.dtype)
            out = out * valid
        # A square over the border is divided by what is inside. There is no
        # padding to count, but torch.compile (2.12) would divide the gradient
        # by all of the square.
        args: dict[str, Any] = dict(
            kernel_size=self.stride, ceil_mode=True, count_include_pad=False
        )
        if is_traced() and mask is None:
            # Tracers take what avg_pool2d() checks of a size for a limit to
            # it, and exporters differ in what they make of a border.
            share = self._sum_squares(torch.ones_like(out[:1, :1]))
            return self._sum_squares(out) / share
        out = F.avg_pool2d(out, **args)
        if mask is None:
            return out
        share = F.avg_pool2d(valid, **args)
        return out / share.masked_fill(share == 0, 1)

    def _sum_squares(self, x: Tensor) -> Tensor:
        """Sum each s x s square, zeros beyond the border."""
        return pad_to_blocks(x, 2, self.stride).sum((3, 5))

    def output_mask(self, mask: Tensor) -> Tensor:
        if self.stride == 1:
            return mask
        mask = mask.unsqueeze(1).to(torch.float32)
        return F.max_pool2d(mask, self.stride, ceil_mode=True)[:, 0] > 0

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, kernel_size={self.kernel_size}, '
            f'num_heads={self.num_heads}, position={self.position!r}, '
            f'channelwise={self.channelwise}'
        )


def _softmax(logits: Tensor) -> Tensor:
    """Over the last two dimensions, in float32 or more; rounded at the end."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.flatten(-2).softmax(-1).view_as(logits).to(logits.dtype)


def _sinusoids(x: Tensor) -> Tensor:
    """Sines and cosines of rows, and of columns: (C, H, W) for a map."""
    _, channels, height, width = x.shape
    options: dict[str, Any] = dict(
        device=x.device, dtype=torch.promote_types(x.dtype, torch.float32)
    )
    codes = []
    for size, number in (
        (height, channels // 2),
        (width, channels - channels // 2),
    ):
        place = torch.arange(size, **options)
        index = torch.arange(number, **options)[:, None]
        even = 2 * (index // 2)
        angle = place / 10000 ** (even / max(number, 1))
        codes.append(torch.where(index == even, angle.sin(), angle.cos()))
    rows, columns = codes
    rows = rows[:, :, None].expand(-1, -1, width)
    columns = columns[:, None].expand(-1, height, -1)
    return torch.cat([rows, columns]).to(x.dtype)
