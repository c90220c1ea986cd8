from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmea.ops import from_blocks, to_windows, turn

from ._checks import check_multiple, check_positive, pick_heads
from .attention_block2d import AttentionBlock2d

__all__ = ['StandAloneStem2d']


class StandAloneStem2d(AttentionBlock2d):
    """Attention stem: the pixels of a block read each other.

    Pixels of an image say little by their content, so the values depend on
    the place in the block of b x b: for the pixel x at (i, j) in its block,
    ``v = (sum over m of p(i, j, m) W_m) x`` with ``p = softmax over m of
    (row_i + column_j) . nu_m``, the mixture of M value matrices. Per head,
    ``softmax(q . k)`` over the pixels of the block weighs these values. No
    scale by sqrt(D), no bias, no output projection. A block over the border
    of the map has zeros beyond it, which stay in the softmax.

    With ``residual=False``, a norm and b x b max pooling behind it, it takes
    the place of the stem of a ResNet.

    Args:
        in_channels (int): Channels C in, 3 of an image.
        out_channels (int | None): Channels out, of queries, keys and values
            too. Default: None, as ``in_channels``.
        block_size (int): b. Default: 4.
        num_mixtures (int): M. Default: 4.
        num_heads (int | None): A divisor of ``out_channels``. Default: None,
            the largest up to 8.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`. The last layer is ``value_proj``.

    Shapes:
        (B, C, H, W) to (B, C_out, H, W). The weight of ``value_proj`` is
        (M C_out, C, 1, 1), matrix by matrix; ``row_table`` and
        ``column_table`` are (b, D), ``mixture_table`` is (M, D).

    Raises:
        ValueError: A size is below 1, ``num_heads`` does not divide
            ``out_channels``, or the residual does not fit.

    Example:
        >>> import torch
        >>> from mmea import StandAloneStem2d
        >>> stem = StandAloneStem2d(3, out_channels=64, residual=False)
        >>> stem(torch.randn(2, 3, 33, 47)).shape
        torch.Size([2, 64, 33, 47])

    Source: arXiv:1906.05909, its convolutional stem replaced. Initialisation:
    projections Kaiming, fan out; rows and columns N(0, 1), mixtures
    N(0, 1 / D), so that places differ.
    """

    _abbr_ = 'stand_alone_stem2d'

    def __init__(
        self,
        in_channels: int,
        *,
        out_channels: int | None = None,
        block_size: int = 4,
        num_mixtures: int = 4,
        num_heads: int | None = None,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels=out_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        channels = self.out_channels
        if num_heads is None:
            num_heads = pick_heads(channels)
        check_positive(
            block_size=block_size,
            num_mixtures=num_mixtures,
            num_heads=num_heads,
        )
        check_multiple(dict(num_heads=num_heads), out_channels=channels)
        self.block_size = block_size
        self.num_mixtures = num_mixtures
        self.num_heads = num_heads
        self.query_proj = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.key_proj = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.value_proj = nn.Conv2d(
            in_channels, num_mixtures * channels, 1, bias=False
        )
        width = channels // num_heads
        self.row_table = nn.Parameter(torch.empty(block_size, width))
        self.column_table = nn.Parameter(torch.empty(block_size, width))
        self.mixture_table = nn.Parameter(torch.empty(num_mixtures, width))
        self.reset_parameters()

    def zero_init_module(self) -> nn.Module:
        return self.value_proj

    def reset_parameters(self) -> None:
        for conv in (self.query_proj, self.key_proj, self.value_proj):
            # The value matrices are mixed: the fan out is that of one.
            nn.init.normal_(conv.weight, std=(2 / self.out_channels) ** 0.5)
        nn.init.normal_(self.row_table)
        nn.init.normal_(self.column_table)
        width = self.mixture_table.shape[1]
        nn.init.normal_(self.mixture_table, std=width**-0.5)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        # Padding is zero in x, and so are its keys and values: no bias.
        query, key = (
            to_windows(
                proj(x).unflatten(1, (self.num_heads, -1)), self.block_size
            ).flatten(5)
            for proj in (self.query_proj, self.key_proj)
        )  # (B, h, nH, nW, D, b^2)
        logits = turn(query) @ key
        full = torch.promote_types(logits.dtype, torch.float32)
        attn = logits.to(full).softmax(-1).to(key.dtype)
        value = self._value(x).flatten(5)
        out = value @ turn(attn)  # (B, h, nH, nW, D, b^2)
        out = out.unflatten(5, 2 * (self.block_size,))
        return from_blocks(out, *x.shape[2:]).flatten(1, 2)

    def _value(self, x: Tensor) -> Tensor:
        """Values in blocks: (B, h, nH, nW, D, b, b)."""
        place = self.row_table[:, None] + self.column_table  # (b, b, D)
        logits = place @ self.mixture_table.transpose(-2, -1)  # (b, b, M)
        full = torch.promote_types(logits.dtype, torch.float32)
        share = logits.to(full).softmax(-1).to(logits.dtype)
        weight = self.value_proj.weight.flatten(1)
        weight = weight.unflatten(0, (self.num_mixtures, -1))  # (M, C_out, C)
        # One matrix for each place, not M maps.
        weight = torch.einsum('ijm,moc->ijoc', share, weight)
        weight = weight.unflatten(2, (self.num_heads, -1))
        blocks = to_windows(x.unsqueeze(1), self.block_size).squeeze(1)
        return torch.einsum('ijhdc,bnkcij->bhnkdij', weight, blocks)

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, block_size={self.block_size}, '
            f'num_mixtures={self.num_mixtures}, num_heads={self.num_heads}'
        )
