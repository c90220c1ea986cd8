from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from mmea.layers._checks import check_positive, check_rates
from mmea.models.registered_layers import CaaMAttention

__all__ = ['CaaMTransformerBlock']


class CaaMTransformerBlock(nn.Module):
    """Layer of CaaM's transformer: a causal and a spurious reading.

    With ``a, b = attention(norm1(x))``::

        causal   = u + MLP(norm2(u)),  u = x + a
        spurious = b + MLP(norm2(b))               no residual of x
        mix      = causal + spurious

    Norm and MLP are the same for both. The next block takes ``mix``; in the
    authors' T2T-ViT-7 the last 4 of 7 blocks are of this kind.

    Args:
        embed_dims (int): Channels C of the tokens.
        num_heads (int): A divisor of ``embed_dims``.
        feedforward_channels (int): Hidden channels of the MLP.
        qkv_bias (bool): Default: False.
        attn_drop_rate (float): Dropout of the softmaxes. Default: 0.
        drop_rate (float): Dropout of the outputs of attention and MLP.
            Default: 0.
        drop_path_rate (float): Stochastic depth. Default: 0.

    Raises:
        ValueError: See :class:`mmea.layers.CaaMAttention`.

    Source: arXiv:2108.08782; the form from the authors' code.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        *,
        qkv_bias: bool = False,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(
            embed_dims=embed_dims, feedforward_channels=feedforward_channels
        )
        check_rates(
            attn_drop_rate=attn_drop_rate,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = CaaMAttention(
            embed_dims,
            num_heads,
            qkv_bias=qkv_bias,
            attn_drop=attn_drop_rate,
            proj_drop=drop_rate,
        )
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            ffn_drop=drop_rate,
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate),
        )

    def forward(
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the block.

        Args:
            x (Tensor): (B, N, C), the mix of the block before.
            mask (Tensor | None): bool (B, N), True = valid, as of
                :class:`mmea.layers.CaaMAttention`. Default: None.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Causal, spurious and mix,
            (B, N, C) each.
        """
        # The stochastic depth of the MLP, which has no weights.
        drop_path = self.ffn.dropout_layer
        causal, spurious = map(drop_path, self.attn(self.norm1(x), mask))
        causal, spurious = (
            self.ffn(self.norm2(path), identity=path)
            for path in (x + causal, spurious)
        )
        return causal, spurious, causal + spurious
