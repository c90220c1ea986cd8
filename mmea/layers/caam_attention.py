from torch import Tensor, nn

from mmea.ops import dot_product_attention

from ._checks import (
    check_dtype,
    check_flags,
    check_multiple,
    check_positive,
    check_rates,
    check_token_mask,
    check_tokens,
)

__all__ = ['CaaMAttention']


class CaaMAttention(nn.Module):
    """CaaM's transformer attention: a causal and a spurious reading.

    ``causal = out_proj(softmax(L) V), spurious = out_proj(softmax(-L) V)``,
    ``L = Q K^T / sqrt(D)`` per head: what a token matches, and what it
    matches least. (No attention of the triangular kind: every token reads all
    tokens.) No residual; in CaaM's block the causal output is added to the
    input and the spurious one stands alone.

    Args:
        embed_dims (int): Channels C of the tokens.
        num_heads (int): A divisor of ``embed_dims``.
        qkv_bias (bool): Default: False.
        attn_drop (float): Dropout of the two softmaxes. Default: 0.
        proj_drop (float): Dropout of the outputs. Default: 0.

    Raises:
        ValueError: A size is below 1, ``num_heads`` does not divide
            ``embed_dims``, or a rate is not in [0, 1).

    Example:
        >>> import torch
        >>> from mmea import CaaMAttention
        >>> attention = CaaMAttention(embed_dims=64, num_heads=4)
        >>> causal, spurious = attention(torch.randn(2, 50, 64))  # (B, N, C)
        >>> causal.shape
        torch.Size([2, 50, 64])

    Source: arXiv:2108.08782; the form from the authors' code.
    Initialisation: torch's default of linear layers.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        qkv_bias: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(embed_dims=embed_dims, num_heads=num_heads)
        check_multiple(dict(num_heads=num_heads), embed_dims=embed_dims)
        check_flags(qkv_bias=qkv_bias)
        check_rates(attn_drop=attn_drop, proj_drop=proj_drop)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.qkv_proj = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    def reset_parameters(self) -> None:
        self.qkv_proj.reset_parameters()
        self.out_proj.reset_parameters()

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself."""
        self.reset_parameters()

    def forward(
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read twice.

        Args:
            x (Tensor): (B, N, C).
            mask (Tensor | None): bool (B, N), True = valid. Other tokens are
                no keys; their own outputs are finite and mean nothing.
                Default: None, all valid.

        Returns:
            tuple[Tensor, Tensor]: Causal and spurious, (B, N, C) each.
        """
        check_tokens('x', x, self.embed_dims)
        check_dtype('x', x, self.qkv_proj)
        keys = None
        if mask is not None:
            check_token_mask('mask', mask, x)
            # Padding may hold anything, and 0 times NaN would be NaN.
            x = x.masked_fill(~mask.unsqueeze(2), 0)
            # Without a valid token all are keys: finite.
            keys = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        qkv = self.qkv_proj(x).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, h, N, D) each
        drop = self.attn_drop if self.training else 0.0
        return tuple(
            self.proj_drop(
                self.out_proj(
                    dot_product_attention(q, key, value, keys, drop)
                    .transpose(1, 2)
                    .flatten(2)
                )
            )
            for q in (query, -query)
        )

    def extra_repr(self) -> str:
        return f'{self.embed_dims}, num_heads={self.num_heads}'
