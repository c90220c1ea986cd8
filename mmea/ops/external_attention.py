from typing import Any, Literal, overload

from torch import Tensor
from torch.distributed import ProcessGroup

from .double_norm import double_norm
from .token_stats import StatsSource, TokenStats

__all__ = ['external_attention']


@overload
def external_attention(
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    *,
    return_stats: Literal[False] = False,
    **options: Any,
) -> Tensor: ...


@overload
def external_attention(
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    *,
    return_stats: Literal[True],
    **options: Any,
) -> tuple[Tensor, TokenStats]: ...


# The overloads leave out what does not change the result's type.
def external_attention(  # type: ignore[misc]
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    *,
    eps: float = 1e-9,
    mask: Tensor | None = None,
    over_tokens: bool = True,
    key_bias: Tensor | None = None,
    stats: StatsSource | None = None,
    return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Tensor | tuple[Tensor, TokenStats]:
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
            softmax over tokens, where there is one, ignores it; ``stats`` do
            not.
        stats (TokenStats | Callable | None): Of the whole image, where the
            tokens are a part of it; see :func:`double_norm`. Default: None,
            those of ``tokens``.
        return_stats (bool): Return the statistics of ``tokens`` too, whatever
            ``stats`` says. Default: False.
        process_group (ProcessGroup | None): The tokens are this process's
            part of the images, any N; statistics are those of all parts. See
            :meth:`TokenStats.over`. Default: None.

    Returns:
        Tensor | tuple[Tensor, TokenStats]: (B, C_v, N), and the statistics
        with ``return_stats``. O(S N (C + C_v)) operations, no N x N map.

    Raises:
        ValueError: ``stats`` of another shape or beside ``process_group``,
            or one of them without ``over_tokens``.

    Example:
        >>> import torch
        >>> from mmea.ops import external_attention
        >>> key, value = torch.randn(16, 64), torch.randn(16, 64)
        >>> external_attention(torch.randn(2, 64, 35), key, value).shape
        torch.Size([2, 64, 35])

    Source: arXiv:2105.02358, external attention with double normalisation.
    """
    if stats is not None and process_group is not None:
        raise ValueError(
            'stats and process_group are two sources of the same statistics; '
            'give one of them'
        )
    # expand + bmm: a product of a 2-D and a 3-D tensor copies the tokens.
    batch = tokens.shape[0]
    logits = key_memory.expand(batch, -1, -1).bmm(tokens)  # (B, S, N)
    if key_bias is not None:
        logits = logits + key_bias[:, None]
    if return_stats or process_group is not None:
        own = TokenStats.of(logits, mask)
    if process_group is not None:
        stats = own.over(process_group)
    attn = double_norm(
        logits, eps=eps, mask=mask, over_tokens=over_tokens, stats=stats
    )
    out = value_memory.t().expand(batch, -1, -1).bmm(attn)  # (B, C_v, N)
    return (out, own) if return_stats else out
