from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ..external_attention import external_attention
from ..token_stats import StatsSource

__all__ = ['BatchStats', 'external_attention_block']


class BatchStats(NamedTuple):
    """The statistics of a batch; no gradient passes here.

    Attributes:
        mean (Tensor): (C_v), over the valid tokens of the batch.
        var (Tensor): (C_v), biased.
        count (Tensor): Number of valid tokens, a scalar.
    """

    mean: Tensor
    var: Tensor
    count: Tensor  # type: ignore[assignment]  # it hides tuple.count


def external_attention_block(
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    bias: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    eps: float = 1e-9,
    norm_eps: float = 1e-5,
    mask: Tensor | None = None,
    residual: bool = True,
    relu: bool = False,
    group: ProcessGroup | None = None,
    over_tokens: bool = True,
    key_bias: Tensor | None = None,
    stats: StatsSource | None = None,
) -> tuple[Tensor, BatchStats | None]:
    """Apply external attention, batch norm, residual and ReLU to tokens.

    ``relu(tokens + norm(external_attention(tokens)))``, written to be read:
    the reference of :func:`low_rank_block` and :func:`low_memory_block`,
    which take the same arguments.

    Args:
        tokens (Tensor): (B, C, N).
        key_memory (Tensor): (S, C).
        value_memory (Tensor): (S, C_v).
        bias (Tensor | None): (C_v), added to every valid token.
        weight (Tensor | None): (C_v). With it, each channel is normalised by
            the statistics of the batch and scaled by ``weight``; without, the
            attention's output stays as it is. Default: None.
        eps (float): Of the double normalisation. Default: 1e-9.
        norm_eps (float): Of the batch normalisation. Default: 1e-5.
        mask (Tensor | None): bool (B, N), True = valid. Invalid tokens enter
            no softmax and no statistics; they get a bias and an attention of
            zero. Default: None, all valid.
        residual (bool): Add ``tokens``, which needs C_v = C. Default: True.
        relu (bool): Default: False.
        group (ProcessGroup | None): Statistics are those of all batches of
            this group, and gradients pass through their sums. Default: None,
            this batch alone.
        over_tokens, key_bias, stats: See :func:`external_attention`.

    Returns:
        tuple[Tensor, BatchStats | None]: (B, C_v, N), and the statistics
        where there is a ``weight``.

    Source: arXiv:2105.02358; arXiv:1502.03167 for the normalisation.
    """
    out = external_attention(
        tokens,
        key_memory,
        value_memory,
        eps=eps,
        mask=mask,
        over_tokens=over_tokens,
        key_bias=key_bias,
        stats=stats,
    )
    valid = torch.ones_like(tokens[:, :1]) if mask is None else mask[:, None]
    batch: BatchStats | None = None
    if weight is not None:
        count = sum_over(valid.to(out.dtype).sum(), group)
        mean = sum_over(out.sum((0, 2)), group) / count.clamp(min=1)
        centred = (out - mean[:, None]) * valid
        var = sum_over(centred.square().sum((0, 2)), group)
        var = var / count.clamp(min=1)
        out = centred * (weight * torch.rsqrt(var + norm_eps))[:, None]
        batch = BatchStats(mean.detach(), var.detach(), count)
    if bias is not None:
        out = out + bias[:, None] * valid
    if residual:
        out = tokens + out
    return out.relu() if relu else out, batch


def sum_over(value: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum of a tensor over the processes of a group, with its gradient."""
    if group is None:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value, group=group)
