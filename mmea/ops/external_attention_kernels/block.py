import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ..external_attention_block.low_rank import compute_dtype
from ..external_attention_block.naive import BatchStats
from ..modes import is_transformed, without_autocast
from ..token_stats import StatsSource
from .operators import HAS_TRITON, INTERPRETED, infer_op, train_op

__all__ = ['CONFIRMED', 'find_kernel_obstacle', 'kernel_block']

#: Compute capabilities, as (9, 0), of GPUs on which the kernels passed
#: ``python -m benchmarks.gpu_check`` and were faster than torch.
CONFIRMED: frozenset[tuple[int, int]] = frozenset()
MAX_SLOTS = 128
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def find_kernel_obstacle(
    tokens: Tensor,
    num_slots: int,
    *,
    group: ProcessGroup | None = None,
    over_tokens: bool = True,
    stats: StatsSource | None = None,
    confirmed: bool = False,
) -> str | None:
    """Find why :func:`kernel_block` cannot, or should not, be taken.

    Args:
        tokens (Tensor): (B, C, ...).
        num_slots (int): S.
        group, over_tokens, stats: As of :func:`kernel_block`.
        confirmed (bool): Only on a GPU of ``CONFIRMED``. Default: False.

    Returns:
        str | None: The reason; None, there is none.
    """
    if not HAS_TRITON:
        return 'triton is not installed'
    if not (tokens.is_cuda or (INTERPRETED and tokens.is_cpu)):
        return f'the input is on {tokens.device.type}, not on a CUDA GPU'
    dtype = compute_dtype(tokens)
    if tokens.dtype not in _DTYPES or dtype not in _DTYPES:
        return f'the kernels have no {tokens.dtype}'
    if num_slots > MAX_SLOTS:
        return f'{num_slots} slots are more than {MAX_SLOTS}'
    if not tokens.numel():
        return 'the input is empty'
    if not over_tokens:
        return 'over_tokens=False has no softmax over tokens'
    if stats is not None:
        return 'the statistics over tokens are given'
    if group is not None:
        return 'the batch norm is synchronised over processes'
    if is_transformed():
        return 'torch.func and forward mode have no rule for the kernels'
    if confirmed and not (tokens.is_cuda and _is_confirmed(tokens.device)):
        return 'the kernels have not been confirmed on this device'
    return None


def _is_confirmed(device: torch.device) -> bool:
    # Asked in the order that leaves a tracer nothing to see while it is empty.
    return bool(CONFIRMED) and (
        torch.cuda.get_device_capability(device) in CONFIRMED
    )


def kernel_block(
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
    """Compute :func:`low_rank_block` by kernels in Triton, for CUDA GPUs.

    Without gradients the tokens are read twice and nothing but the output is
    written; for a backward pass the logits are kept, S / C of the tokens'
    size in float32, and a bit per number for the ReLU. Products are in the
    dtype of autocast or of the tokens, all else in float32. A second
    derivative is an error.

    Arguments and results are those of :func:`external_attention_block`, with
    C_v = C.

    Raises:
        ValueError: :func:`find_kernel_obstacle` finds one.
    """
    obstacle = find_kernel_obstacle(
        tokens,
        len(key_memory),
        group=group,
        over_tokens=over_tokens,
        stats=stats,
    )
    if obstacle is not None:
        raise ValueError(f'the kernels cannot be taken: {obstacle}')
    dtype = compute_dtype(tokens)
    with without_autocast(tokens):
        x = tokens
        if not (x.is_contiguous() or x.mT.is_contiguous()):
            x = x.contiguous()
        mask = None if mask is None else mask.contiguous()
        inputs = (x, key_memory, value_memory, bias, weight)
        needs_grad = torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in inputs
        )
        if weight is None and not needs_grad:
            out = infer_op(*inputs[:4], mask, eps, residual, relu, dtype)
            return out, None
        out, mean, var, count, *_ = train_op(
            *inputs, mask, eps, norm_eps, residual, relu, dtype
        )
    return out, None if weight is None else BatchStats(mean, var, count)
