from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._checks import check_multiple, check_positive
from .attention_block2d import AttentionBlock2d

__all__ = ['EfficientAttention2d']


class EfficientAttention2d(AttentionBlock2d):
    """Efficient attention: every token reads a summary of the image.

    ``attend(x) = out_proj(softmax_D(Q) (softmax_N(K)^T V))`` per head: keys
    are normalised over the tokens, queries over the D key channels of their
    head. The bracket comes first, so that cost is linear in the number of
    tokens.

    With ``zero_init=False`` this is the published block, initialisation
    included (torch's default of the convolutions).

    Args:
        in_channels (int): Channels C, in and out.
        key_channels (int | None): Width of queries and keys, all heads
            together; a multiple of ``num_heads``. Default: None, half of
            ``in_channels``, rounded down to such a multiple, at least 1 for
            each head.
        value_channels (int | None): Width of the values, likewise. Default:
            None, as ``in_channels``.
        num_heads (int): Default: 1.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W). Heads are consecutive channels of the
        projections.

    Raises:
        ValueError: A size is below 1, or ``num_heads`` does not divide
            ``key_channels`` or ``value_channels``.

    Example:
        >>> import torch
        >>> from mmea import EfficientAttention2d
        >>> layer = EfficientAttention2d(64, key_channels=16, num_heads=2)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:1812.01243; heads and initialisation from the authors' code,
    which has no default sizes.
    """

    _abbr_ = 'efficient_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        key_channels: int | None = None,
        value_channels: int | None = None,
        num_heads: int = 1,
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
        check_positive(num_heads=num_heads)
        if key_channels is None:
            key_channels = max(in_channels // (2 * num_heads), 1) * num_heads
        if value_channels is None:
            value_channels = in_channels
        sizes = dict(key_channels=key_channels, value_channels=value_channels)
        check_positive(**sizes)
        check_multiple(dict(num_heads=num_heads), **sizes)
        self.num_heads = num_heads
        self.query_proj = nn.Conv2d(in_channels, key_channels, 1)
        self.key_proj = nn.Conv2d(in_channels, key_channels, 1)
        self.value_proj = nn.Conv2d(in_channels, value_channels, 1)
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            value_channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (
            self.query_proj,
            self.key_proj,
            self.value_proj,
            self.out_proj,
        ):
            conv.reset_parameters()
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = mask.flatten(1)[:, None, None]  # (B, 1, 1, N)
        query, key, value = (
            proj(x).flatten(2).unflatten(1, (self.num_heads, -1))
            for proj in (self.query_proj, self.key_proj, self.value_proj)
        )  # (B, h, D, N) each, values (B, h, D_v, N)
        context = value @ _softmax(key, 3, mask).transpose(
            -2, -1
        )  # (B, h, D_v, D)
        out = (context @ _softmax(query, 2)).flatten(1, 2)
        return self.out_proj(out.unflatten(2, x.shape[2:]))

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, '
            f'key_channels={self.key_proj.out_channels}, '
            f'value_channels={self.value_proj.out_channels}, '
            f'num_heads={self.num_heads}'
        )


def _softmax(x: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
    """Half precision in float32, also under autocast, rounded at the end."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if mask is not None:
        # Finite: an image without a valid token must give no NaN.
        wide = wide.masked_fill(~mask, torch.finfo(wide.dtype).min)
    return wide.softmax(dim).to(x.dtype)
