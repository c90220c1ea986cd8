import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup

from ..double_norm import double_norm
from ..modes import can_overwrite, without_autocast
from ..token_stats import StatsSource
from .naive import BatchStats, sum_over

__all__ = ['low_rank_block']


def low_rank_block(
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
    inplace: bool = False,
) -> tuple[Tensor, BatchStats | None]:
    """Compute :func:`external_attention_block` in 2 C S N operations, exactly.

    The attention's output ``Z = D P`` has rank S: its mean over tokens is
    ``D mean(P)``, its variance ``rowsum((D cov(P)) * D)``. Z is never formed;
    normalisation, bias, residual and ReLU go into the one product that makes
    the output, in the memory layout of ``tokens`` (channels last too).

    Under autocast the big products run in its dtype and the rest in float32.
    P is centred before it is rounded: it is nearly 1/S, and the normalisation
    would amplify the rounding. The gradient of ``bias`` is a column of such a
    product, in that dtype; :func:`low_memory_block` sums it in float32. On a
    CPU, logits in bfloat16 are rounded, in inference alone, and where
    ``tokens`` are in float32 so is the other product: widening it and adding
    it apart would take longer than it saves.

    Arguments and results are those of :func:`external_attention_block`, and

    Args:
        inplace (bool): Write the result over ``tokens`` where it is of their
            dtype, ``residual`` is set and no gradient or graph is recorded.
            Default: False.
    """
    dtype = compute_dtype(tokens)
    with without_autocast(tokens):
        out, batch, _ = low_rank_forward(
            tokens,
            key_memory,
            value_memory,
            bias,
            weight,
            key_bias,
            eps=eps,
            norm_eps=norm_eps,
            mask=mask,
            residual=residual,
            relu=relu,
            group=group,
            over_tokens=over_tokens,
            dtype=dtype,
            source=stats,
            inplace=inplace,
        )
    return out, batch


def compute_dtype(tokens: Tensor) -> torch.dtype:
    """Return what a convolution computes in: autocast's dtype or its own."""
    device = tokens.device.type
    if (
        not tokens.is_meta  # it has no autocast
        and torch.is_autocast_enabled(device)
        and tokens.dtype != torch.float64
    ):
        return torch.get_autocast_dtype(device)
    return tokens.dtype


def low_rank_forward(
    tokens: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    key_bias: Tensor | None,
    *,
    eps: float,
    norm_eps: float,
    mask: Tensor | None,
    residual: bool,
    relu: bool,
    group: ProcessGroup | None,
    over_tokens: bool,
    dtype: torch.dtype,
    source: StatsSource | None = None,
    inplace: bool = False,
    keep: bool = False,
) -> tuple[Tensor, BatchStats | None, tuple[Tensor, ...]]:
    """Run the low-rank form with autocast off, big products in ``dtype``.

    Returns:
        tuple: Output, statistics, and what a backward by hand needs: with
        ``keep`` the logits and, where there is a ``weight``, the centre of P,
        the scale before ``weight`` and the local sums of P and P P^T about
        the centre.
    """
    batch, _, num_tokens = tokens.shape
    full = torch.promote_types(dtype, torch.float32)
    x = tokens
    if mask is not None and torch.is_grad_enabled():
        x = without_padding(tokens, mask)
    logits = multiply_up(key_memory, x, dtype, exact=keep)  # (B, S, N)
    if key_bias is not None:
        logits = logits + key_bias.to(full)[:, None]
    attn = double_norm(
        logits, eps=eps, mask=mask, over_tokens=over_tokens, stats=source
    )
    saved: tuple[Tensor, ...] = (logits,) if keep else ()
    # What is held here, malloc cannot give to the output.
    del logits
    value = value_memory.to(full).t()  # (C_v, S)
    shift = None if bias is None else bias.to(full)[:, None]  # (C_v, 1)
    stats: BatchStats | None = None
    free = can_overwrite()
    if free and residual and tokens.is_cpu and tokens.dtype == full:
        dtype = full
    if weight is not None:
        if mask is None:
            count = attn.new_full((), batch * num_tokens)
        else:
            count = mask.sum(dtype=full)
        valid_tokens = sum_over(count, group)
        count = valid_tokens.clamp(min=1)
        centre = sum_over(attn.sum((0, 2)), group) / count  # (S)
        attn = centred(attn, centre[:, None], mask, inplace=free)
        gram = attn.bmm(attn.transpose(-2, -1)).sum(0)  # (S, S)
        cov = sum_over(gram, group) / count
        # Rounding may leave a variance of zero below zero.
        var = ((value @ cov) * value).sum(1).clamp(min=0)
        rstd = torch.rsqrt(var + norm_eps)
        mean = value @ centre
        stats = BatchStats(mean.detach(), var.detach(), valid_tokens)
        saved += centre, rstd, attn.sum((0, 2)), gram, count
        value = value * (weight.to(full) * rstd)[:, None]
    elif dtype != full:
        # Any centre is exact: what it takes away, the shift gives back.
        centre = image_centre(attn, mask)  # (B, S, 1)
        attn = centred(attn, centre, mask, inplace=free)
        back = value @ centre
        shift = back if shift is None else shift + back  # (B, C_v, 1)
    if dtype == torch.float16:
        factor = half_factor(attn)
        attn, value = attn / factor, value * factor
    attn = attn.to(dtype)
    apart = free and mask is None and dtype == full
    if shift is not None and not apart:
        # The shift is one more slot, read by every valid token: rounded once,
        # and no other map for a gradient to pass.
        ones = torch.ones_like(attn[:, :1]) if mask is None else mask[:, None]
        attn = torch.cat([attn, ones.to(dtype)], 1)
        if shift.dim() == 3:
            value = value.expand(batch, -1, -1)
        value = torch.cat([value, shift], -1)
    out = add_product(
        tokens,
        value.to(dtype).expand(batch, -1, -1),
        attn,
        add=residual,
        shift=shift if apart else None,
        inplace=inplace and free and is_writable(tokens),
    )
    return F.relu(out, inplace=True) if relu else out, stats, saved


def is_writable(x: Tensor) -> bool:
    """Tell whether torch lets one write over a tensor.

    Not where elements share a place, as after ``expand()``, nor over a tensor
    of inference mode outside of it.
    """
    if x.is_inference() and not torch.is_inference_mode_enabled():
        return False
    return all(step or size == 1 for step, size in zip(x.stride(), x.shape))


def without_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    """Clear the padding, for 0 times NaN in a gradient would be NaN."""
    return tokens.masked_fill(~mask[:, None], 0)


def multiply_up(
    a: Tensor, b: Tensor, dtype: torch.dtype, *, exact: bool = True
) -> Tensor:
    """Multiply ``a @ b`` in ``dtype``, sum and return it in float32 or more.

    An exponential follows, in which a rounded logit would be the largest
    error of all. A CPU has no such product: without ``exact`` it may round
    to bfloat16, once, where the published form rounds tokens and logits.
    """
    full = torch.promote_types(dtype, torch.float32)
    batch = b.shape[0]  # len() would be a constant to a tracer
    if (
        dtype != full
        and b.is_cuda
        and not torch.is_grad_enabled()  # it has no derivative
        and 'dtype' in torch.ops.aten.bmm.overloads()
    ):
        a = a.to(dtype).expand(batch, -1, -1)
        return torch.bmm(a, b.to(dtype), out_dtype=full)
    if not exact and dtype == torch.bfloat16 and b.is_cpu and can_overwrite():
        return a.to(dtype).expand(batch, -1, -1).bmm(b.to(dtype)).to(full)
    return a.to(full).expand(batch, -1, -1).bmm(b.to(full))


def image_centre(attn: Tensor, mask: Tensor | None) -> Tensor:
    """Average (B, S, N) over the valid tokens of each image: (B, S, 1)."""
    if mask is None:
        return attn.mean(-1, keepdim=True)
    count = mask.sum(-1)[:, None, None].clamp(min=1)
    return attn.sum(-1, keepdim=True) / count


def half_factor(attn: Tensor) -> Tensor:
    """Find what to divide P by, and multiply D by, before they are float16.

    After the centring P may be as small as float16's last bits, and D, which
    a normalisation has made as large, out of its range.
    """
    largest = attn.detach().abs().amax()
    return torch.where(largest > 0, largest, 1)


def centred(
    attn: Tensor,
    centre: Tensor,
    mask: Tensor | None,
    *,
    inplace: bool = False,
) -> Tensor:
    """Subtract the centre of the attention; zero where a token is invalid."""
    attn = attn.sub_(centre) if inplace else attn - centre
    return attn if mask is None else attn * mask[:, None]


def add_product(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    add: bool,
    shift: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Return ``x + a @ b`` or ``a @ b`` in the memory layout of x, (B, C, N).

    A plain ``bmm`` would return contiguous channels, and every layer behind a
    channels-last model would copy. A ``shift`` (C, 1) or (B, C, 1) is added,
    where no gradient is recorded.
    """
    if x.stride(2) != 1 and x.stride(1) == 1:
        x, a, b = x.transpose(-2, -1), b.transpose(-2, -1), a.transpose(-2, -1)
        shift = None if shift is None else shift.transpose(-2, -1)
        out = add_product(x, a, b, add=add, shift=shift, inplace=inplace)
        return out.transpose(-2, -1)
    if shift is not None:
        if not add:
            return torch.baddbmm(shift, a, b)
        x, inplace = (x.add_(shift) if inplace else x + shift), True
    if add and x.dtype == a.dtype:
        return x.baddbmm_(a, b) if inplace else torch.baddbmm(x, a, b)
    product = torch.bmm(a, b)
    return x + product if add else product
