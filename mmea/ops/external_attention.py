from torch import Tensor

from .double_norm import double_norm

__all__ = ['external_attention']


def external_attention(
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    *,
    eps: float = 1e-9,
    mask: Tensor | None = None,
    over_tokens: bool = True,
    key_bias: Tensor | None = None,
) -> Tensor:
    """Read S memory slots from every token: the bare operator.

    Args:
        tokens (Tensor): (B, C, N).
        key_memory (Tensor): (S, C).
        value_memory (Tensor): (S, C_v).
        eps (float): See :func:`double_norm`.
        mask (Tensor | None): bool (B, N), True = valid; invalid tokens read
            nothing (their output is 0).
        over_tokens (bool): See :func:`double_norm`.
        key_bias (Tensor | None): (S), added to the logits of each slot. The
            softmax over tokens, where there is one, ignores it.

    Returns:
        Tensor: (B, C_v, N). O(S N (C + C_v)) operations, no N x N map.

    Example:
        >>> import torch
        >>> from mmea.ops import external_attention
        >>> key, value = torch.randn(16, 64), torch.randn(16, 64)
        >>> external_attention(torch.randn(2, 64, 35), key, value).shape
        torch.Size([2, 64, 35])

    Source: arXiv:2105.02358, external attention with double normalisation.
    """
    # expand + bmm: a product of a 2-D and a 3-D tensor copies the tokens.
    batch = tokens.shape[0]
    logits = key_memory.expand(batch, -1, -1).bmm(tokens)  # (B, S, N)
    if key_bias is not None:
        logits = logits + key_bias[:, None]
    attn = double_norm(logits, eps=eps, mask=mask, over_tokens=over_tokens)
    return value_memory.t().expand(batch, -1, -1).bmm(attn)  # (B, C_v, N)
