from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmea.ops import from_blocks, to_windows, turn

from ._checks import (
    check_flags,
    check_int,
    check_multiple,
    check_positive,
    pick_heads,
)
from .attention_block2d import AttentionBlock2d

__all__ = ['HaloAttention2d']


class HaloAttention2d(AttentionBlock2d):
    """Halo attention: the tokens of a block read the window around it.

    The map is cut into blocks of b x b tokens. All of a block's queries meet
    the same keys, those of the block and of a halo of h tokens around it:
    per head of D channels, ``softmax((q . k + q . r) / sqrt(D))`` weighs the
    values, r an embedding of the row offset plus one of the column offset.
    A map of any size: the last blocks may reach over the border.

    Args:
        in_channels (int): Channels C in.
        out_channels (int | None): Channels out. Default: None, as
            ``in_channels``.
        block_size (int): b. Default: 8.
        halo_size (int): h, 0 or more. Default: 3.
        num_heads (int | None): A divisor of the two widths below. Default:
            None, the largest up to 8 that divides ``out_channels``.
        key_channels (int | None): Width of queries and keys, all heads
            together. Default: None, as ``out_channels``.
        value_channels (int | None): Width of the values, likewise.
        stride (int): Keep the queries of every s-th row and column, from the
            first; a divisor of ``block_size``. Default: 1.
        masked (bool): Leave what is outside the map out of the softmax.
            ``False`` keeps it there, with keys and values of zero. Default:
            True.
        project (bool): Mix the heads by ``out_proj``. Default: True.
        scale_position (bool): Divide q . r by sqrt(D) too. Default: True.
        qkv_bias (bool): Default: False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`. Without ``out_proj`` the last layer is
            ``value_proj``.

    Shapes:
        (B, C, H, W) to (B, C_out, ceil(H / s), ceil(W / s)). ``row_table`` and
        ``column_table`` are (2 (b + 2 h) - 1, D), shared by the heads; the
        entry of an offset o from query to key is o + b + 3 h - 1.

    Raises:
        ValueError: A size is out of its range, ``num_heads`` does not divide
            a width, ``stride`` not ``block_size``, ``value_channels`` differs
            from ``out_channels`` without ``project``, or the residual does
            not fit.

    Example:
        >>> import torch
        >>> from mmea import HaloAttention2d
        >>> layer = HaloAttention2d(64, block_size=4, halo_size=1)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:2103.12731. As it is by default, the operator of
    lucidrains' halonet-pytorch with its mask put right; with ``masked=False,
    project=False, scale_position=False`` that of timm's HaloAttn.
    Initialisation is timm's, N(0, 1 / C) and, for the tables, N(0, 1 / D).
    """

    _abbr_ = 'halo_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        out_channels: int | None = None,
        block_size: int = 8,
        halo_size: int = 3,
        num_heads: int | None = None,
        key_channels: int | None = None,
        value_channels: int | None = None,
        stride: int = 1,
        masked: bool = True,
        project: bool = True,
        scale_position: bool = True,
        qkv_bias: bool = False,
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
        out_channels = self.out_channels
        if num_heads is None:
            num_heads = pick_heads(out_channels)
        if key_channels is None:
            key_channels = out_channels
        if value_channels is None:
            value_channels = out_channels
        widths = dict(key_channels=key_channels, value_channels=value_channels)
        check_positive(block_size=block_size, num_heads=num_heads, **widths)
        check_int(0, halo_size=halo_size)
        check_multiple(dict(num_heads=num_heads), **widths)
        check_multiple(dict(stride=stride), block_size=block_size)
        check_flags(
            masked=masked,
            project=project,
            scale_position=scale_position,
            qkv_bias=qkv_bias,
        )
        if not project and value_channels != out_channels:
            raise ValueError(
                'project=False needs value_channels equal to out_channels, '
                f'got {value_channels=} and {out_channels=}'
            )
        self.block_size = block_size
        self.halo_size = halo_size
        self.num_heads = num_heads
        self.masked = masked
        self.scale_position = scale_position
        self.query_proj = nn.Conv2d(
            in_channels, key_channels, 1, stride, bias=qkv_bias
        )
        self.key_proj = nn.Conv2d(in_channels, key_channels, 1, bias=qkv_bias)
        self.value_proj = nn.Conv2d(
            in_channels, value_channels, 1, bias=qkv_bias
        )
        size = 2 * (block_size + 2 * halo_size) - 1
        width = key_channels // num_heads
        self.row_table = nn.Parameter(torch.empty(size, width))
        self.column_table = nn.Parameter(torch.empty(size, width))
        # A norm brings its own bias.
        self.out_proj = (
            nn.Conv2d(value_channels, out_channels, 1, bias=norm_layer is None)
            if project
            else None
        )
        self.reset_parameters()

    def zero_init_module(self) -> nn.Module:
        return self.value_proj if self.out_proj is None else self.out_proj

    def reset_parameters(self) -> None:
        for conv in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.normal_(conv.weight, std=conv.in_channels**-0.5)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for table in (self.row_table, self.column_table):
            nn.init.normal_(table, std=table.shape[1] ** -0.5)
        if self.out_proj is not None:
            self.out_proj.reset_parameters()
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (
            proj(x).unflatten(1, (self.num_heads, -1))
            for proj in (self.query_proj, self.key_proj, self.value_proj)
        )  # (B, h, D, H, W)
        if mask is not None:
            mask = mask[:, None, None]
            # As beyond the border, where a bias does not reach.
            key, value = key * mask, value * mask
        height, width = query.shape[3:]
        # (B, h, nH, nW, D, b / s, b / s) and (..., D, side^2)
        query = to_windows(query, self.block_size // self.stride)
        around = (self.block_size, self.halo_size)
        key = to_windows(key, *around).flatten(5)
        value = to_windows(value, *around).flatten(5)
        logits = self._weigh(query, key)  # (B, h, nH, nW, (b / s)^2, side^2)
        if self.masked:
            if mask is None:
                mask = x.new_ones(1, 1, 1, *x.shape[2:], dtype=torch.bool)
            inside = to_windows(mask, *around).flatten(5)
            # Finite: a block of padding only must give no NaN.
            logits = logits.masked_fill(~inside, torch.finfo(logits.dtype).min)
        attn = logits.softmax(-1).to(value.dtype)
        out = value @ turn(attn)  # (B, h, nH, nW, D_v, (b / s)^2)
        out = out.unflatten(5, query.shape[5:])
        out = from_blocks(out, height, width).flatten(1, 2)
        return out if self.out_proj is None else self.out_proj(out)

    def _weigh(self, query: Tensor, key: Tensor) -> Tensor:
        """Logits in float32 or more, contents and offsets."""
        scale = query.shape[4] ** -0.5
        full = torch.promote_types(query.dtype, torch.float32)
        rows, columns = (
            self._expand(table).to(query.dtype)
            for table in (self.row_table, self.column_table)
        )  # (b / s, D, side)
        tokens = query.permute(0, 1, 2, 3, 5, 6, 4)  # (..., b / s, b / s, D)
        rows = (tokens @ rows).to(full).unsqueeze(-1)
        columns = (tokens.transpose(4, 5) @ columns).to(full)
        columns = columns.transpose(4, 5).unsqueeze(-2)
        place = (rows + columns).flatten(6).flatten(4, 5)
        logits = (turn(query.flatten(5)) @ key).to(full) * scale
        return logits + (place * scale if self.scale_position else place)

    def _expand(self, table: Tensor) -> Tensor:
        """Expand the embeddings for the queries of a block: (b / s, D, side).

        Key a of the window is a - h - p rows from query p of the block.
        """
        side = self.block_size + 2 * self.halo_size
        place = torch.arange(side, device=table.device)
        query = place[: self.block_size : self.stride, None]
        return table[place - query + side - 1].transpose(-2, -1)

    def output_mask(self, mask: Tensor) -> Tensor:
        return mask[:, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, block_size={self.block_size}, '
            f'halo_size={self.halo_size}, num_heads={self.num_heads}, '
            f'masked={self.masked}'
        )
