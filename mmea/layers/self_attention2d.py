from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmea.ops import dot_product_attention

from ._checks import check_flags, check_multiple, check_positive
from .attention_block2d import AttentionBlock2d

__all__ = ['SelfAttention2d']


class SelfAttention2d(AttentionBlock2d):
    """Multi-head self-attention: every token reads all tokens.

    ``attend(x) = out_proj(softmax(Q K^T / sqrt(D)) V)`` per head of D
    channels, by ``F.scaled_dot_product_attention``. Time is quadratic in the
    number of tokens; memory is linear where torch has a fused kernel. It is
    the baseline that the systems of linear cost are measured against.

    Args:
        in_channels (int): Channels C, in and out.
        num_heads (int): Heads; a divisor of ``channels``. Default: 1.
        channels (int | None): Width of queries, keys and values, all heads
            together. Default: None, as ``in_channels``.
        qkv_bias (bool): Default: True.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W). ``qkv_proj`` has 3 ``channels`` outputs:
        queries, keys, values, the heads of each one after the other.

    Raises:
        ValueError: A size is below 1, or ``num_heads`` does not divide
            ``channels``.

    Example:
        >>> import torch
        >>> from mmea import SelfAttention2d
        >>> layer = SelfAttention2d(64, num_heads=4)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:1706.03762, scaled dot-product attention with heads, here
    over the pixels of a map. Initialisation: torch's default of the
    convolutions.
    """

    _abbr_ = 'self_attention2d'
    entry = 'qkv_proj'

    def __init__(
        self,
        in_channels: int,
        *,
        num_heads: int = 1,
        channels: int | None = None,
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
        channels = in_channels if channels is None else channels
        check_positive(num_heads=num_heads, channels=channels)
        check_multiple(dict(num_heads=num_heads), channels=channels)
        check_flags(qkv_bias=qkv_bias)
        self.num_heads = num_heads
        # One convolution: the input is read once, and one copy gives all
        # three the layout that the fused kernels need.
        self.qkv_proj = nn.Conv2d(in_channels, 3 * channels, 1, bias=qkv_bias)
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.qkv_proj.reset_parameters()
        self.out_proj.reset_parameters()
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        keys = None
        if mask is not None:
            # Without a valid token all are keys: finite, and zeroed after.
            keys = mask.flatten(1)  # (B, N)
            keys = keys | ~keys.any(1, keepdim=True)
            keys = keys[:, None, None]  # (B, 1, 1, N)
        qkv = self.qkv_proj(x).unflatten(1, (3, self.num_heads, -1))
        # (B, 3, h, D, H, W) to (3, B, h, H, W, D). Where the last stride is
        # not 1, a CPU forms the N x N map without a word. contiguous() would
        # leave the strides of a head of one channel as they are.
        qkv = qkv.permute(1, 0, 2, 4, 5, 3).clone(
            memory_format=torch.contiguous_format
        )
        query, key, value = qkv.flatten(3, 4).unbind()  # (B, h, N, D) each
        out = dot_product_attention(query, key, value, keys)
        out = out.transpose(-2, -1).flatten(1, 2)  # (B, c, N)
        return self.out_proj(out.unflatten(2, x.shape[2:]))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, num_heads={self.num_heads}'
