import torch.nn.functional as F
from torch import Tensor, nn

from mmea.ops import dot_product_attention

from ._checks import (
    check_dtype,
    check_flags,
    check_multiple,
    check_number,
    check_positive,
    check_rates,
    check_token_mask,
    check_tokens,
)

__all__ = ['CATTLayer']


class CATTLayer(nn.Module):
    """CATT's layer: tokens read their own sample, and a dictionary of others.

    Twice the same post-norm transformer layer on the same tokens h: ``o =
    norm(attn_proj(attention(h, context)) + h)``, ``norm(fc2(gelu(fc1(o))) +
    o)``. The context of the in-sample output is h itself, that of the
    cross-sample output a dictionary.

    Args:
        embed_dims (int): Channels C of the tokens and the dictionary.
        num_heads (int): A divisor of ``embed_dims``.
        feedforward_channels (int | None): Hidden width. Default: None, 4 C.
        shared (bool): One set of weights for both. Default: False.
        dropout (float): Of attention weights and of what is added to a
            residual. Default: 0; 0.1 is published.
        norm_eps (float): Default: 1e-12, as published.

    Raises:
        ValueError: A size is below 1, ``num_heads`` does not divide
            ``embed_dims``, or ``dropout`` is not in [0, 1).

    Example:
        >>> import torch
        >>> from mmea import CATTLayer
        >>> layer = CATTLayer(64, num_heads=4)
        >>> tokens, dictionary = torch.randn(2, 50, 64), torch.randn(1, 9, 64)
        >>> inside, across = layer(tokens, dictionary)
        >>> across.shape
        torch.Size([2, 50, 64])

    Source: arXiv:2103.03493; the layer from the authors' LXMERT + CATT.
    Initialisation: weights N(0, 0.02), biases 0, as BERT's.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        feedforward_channels: int | None = None,
        shared: bool = False,
        dropout: float = 0.0,
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        check_positive(embed_dims=embed_dims, num_heads=num_heads)
        if feedforward_channels is None:
            feedforward_channels = 4 * embed_dims
        check_positive(feedforward_channels=feedforward_channels)
        check_multiple(dict(num_heads=num_heads), embed_dims=embed_dims)
        check_flags(shared=shared)
        check_rates(dropout=dropout)
        check_number(0, norm_eps=norm_eps)
        args = (embed_dims, num_heads, feedforward_channels, dropout, norm_eps)
        self.embed_dims = embed_dims
        self.in_path = None if shared else _Path(*args)
        self.cross_path = _Path(*args)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself."""
        self.reset_parameters()

    def forward(
        self,
        x: Tensor,
        dictionary: Tensor,
        mask: Tensor | None = None,
        dictionary_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read twice.

        Args:
            x (Tensor): (B, N, C).
            dictionary (Tensor): (1, K, C) for all samples, or (B, K, C).
            mask (Tensor | None): bool (B, N), True = valid. Other tokens are
                no keys; their own outputs are there all the same, and NaN in
                such a token counts as 0.
            dictionary_mask (Tensor | None): bool (1, K) or (B, K), likewise.

        Returns:
            tuple[Tensor, Tensor]: In-sample and cross-sample, (B, N, C) each.
        """
        return (
            self.read_sample(x, mask),
            self.read_dictionary(x, dictionary, mask, dictionary_mask),
        )

    def read_sample(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the in-sample output alone."""
        x = self._check(x, mask)
        path = self.cross_path if self.in_path is None else self.in_path
        return path(x, x, mask)

    def read_dictionary(
        self,
        x: Tensor,
        dictionary: Tensor,
        mask: Tensor | None = None,
        dictionary_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-sample output alone."""
        x = self._check(x, mask)
        check_tokens('dictionary', dictionary, self.embed_dims)
        check_dtype('dictionary', dictionary, self.cross_path.key_proj)
        if dictionary_mask is not None:
            check_token_mask('dictionary_mask', dictionary_mask, dictionary)
        return self.cross_path(x, dictionary, dictionary_mask)

    def _check(self, x: Tensor, mask: Tensor | None) -> Tensor:
        check_tokens('x', x, self.embed_dims)
        check_dtype('x', x, self.cross_path.query_proj)
        if mask is None:
            return x
        check_token_mask('mask', mask, x)
        # NaN and inf of the padding go: 0 times NaN would be NaN.
        return x.masked_fill(~mask.unsqueeze(2) & ~x.isfinite(), 0)


class _Path(nn.Module):
    """Attention to a context, then feed-forward; post-norm residuals."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_proj = nn.Linear(embed_dims, embed_dims)
        self.key_proj = nn.Linear(embed_dims, embed_dims)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.attn_proj = nn.Linear(embed_dims, embed_dims)
        self.attn_norm = nn.LayerNorm(embed_dims, norm_eps)
        self.fc1 = nn.Linear(embed_dims, feedforward_channels)
        self.fc2 = nn.Linear(feedforward_channels, embed_dims)
        self.norm = nn.LayerNorm(embed_dims, norm_eps)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None
    ) -> Tensor:
        if mask is not None:
            # Without a valid key all are keys: finite.
            mask = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        query, key, value = (
            proj(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for proj, tokens in (
                (self.query_proj, x),
                (self.key_proj, context),
                (self.value_proj, context),
            )
        )  # (B, h, N, D), (1 or B, h, K, D) twice
        batch = x.shape[0]  # len() would be a constant to a tracer
        out = dot_product_attention(
            query,
            key.expand(batch, -1, -1, -1),
            value.expand(batch, -1, -1, -1),
            mask,
            self.dropout if self.training else 0.0,
        )
        out = self.attn_proj(out.transpose(1, 2).flatten(2))
        out = self.attn_norm(self.drop(out) + x)
        return self.norm(self.drop(self.fc2(F.gelu(self.fc1(out)))) + out)
