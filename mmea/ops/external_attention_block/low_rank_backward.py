from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import softmax

from ..double_norm import double_norm
from ..modes import is_traced, is_transformed, without_autocast
from ..token_stats import StatsSource
from .low_rank import (
    add_product,
    centred,
    compute_dtype,
    half_factor,
    image_centre,
    low_rank_block,
    low_rank_forward,
    without_padding,
)
from .naive import BatchStats, sum_over

__all__ = ['low_memory_block']


def low_memory_block(
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
    """Compute :func:`low_rank_block`, its backward pass written out.

    For it only the logits are kept, S / C of the tokens' size, beside the
    tokens themselves and (with ``relu``) the output. A second derivative is
    left to :func:`low_rank_block`, and so is all with ``stats``, and where a
    tracer or a transform of torch.func looks on, to whom this Function would
    be a black box.

    Arguments and results are those of :func:`external_attention_block`.
    """
    tensors = tokens, key_memory, value_memory, bias, weight
    options: dict[str, Any] = dict(
        eps=eps,
        norm_eps=norm_eps,
        residual=residual,
        relu=relu,
        group=group,
        over_tokens=over_tokens,
    )
    if stats is not None or is_traced() or is_transformed():
        return low_rank_block(
            *tensors, mask=mask, key_bias=key_bias, stats=stats, **options
        )
    out, *batch_stats = _LowMemory.apply(*tensors, key_bias, mask, options)
    return out, None if weight is None else BatchStats(*batch_stats)


class _LowMemory(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        key_memory: Tensor,
        value_memory: Tensor,
        bias: Tensor | None,
        weight: Tensor | None,
        key_bias: Tensor | None,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> tuple[Tensor, ...]:
        ctx.options = options
        ctx.dtype = compute_dtype(tokens)
        with without_autocast(tokens):
            out, stats, saved = low_rank_forward(
                tokens,
                key_memory,
                value_memory,
                bias,
                weight,
                key_bias,
                mask=mask,
                dtype=ctx.dtype,
                keep=True,
                **options,
            )
        ctx.save_for_backward(
            tokens,
            key_memory,
            value_memory,
            bias,
            weight,
            key_bias,
            mask,
            out if options['relu'] else None,
            *saved,
        )
        if stats is None:
            return (out,)
        ctx.mark_non_differentiable(*stats)
        return out, *stats

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *_: None
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, grad)
        with without_autocast(grad):
            return _backward(ctx, grad)


def _differentiable_backward(
    ctx: Any, grad: Tensor
) -> tuple[Tensor | None, ...]:
    """For a second derivative: the first one, made by autograd."""
    *inputs, key_bias, mask = ctx.saved_tensors[:7]
    needs = ctx.needs_input_grad[:6]
    wanted = [x for x, need in zip([*inputs, key_bias], needs) if need]
    low = ctx.dtype != torch.promote_types(ctx.dtype, torch.float32)
    autocast = without_autocast(grad)
    if low and not grad.is_meta:
        autocast = torch.autocast(grad.device.type, ctx.dtype)
    with autocast:
        out, _ = low_rank_block(
            *inputs, key_bias=key_bias, mask=mask, **ctx.options
        )
    grads = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return (
        *(next(grads) if need else None for need in needs),
        None,
        None,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Section by section the reverse of :func:`low_rank_forward`."""
    options = ctx.options
    (
        tokens,
        key_memory,
        value_memory,
        bias,
        weight,
        key_bias,
        mask,
        out,
        logits,
        *saved,
    ) = ctx.saved_tensors
    batch, dtype = tokens.shape[0], ctx.dtype
    full = torch.promote_types(dtype, torch.float32)

    # ReLU. What it makes is ours, and later becomes the tokens' gradient.
    if options['relu']:
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
    dy = grad.to(dtype)

    # The product: P, centred as in the forward pass, and D = scale * value.
    over_tokens = options['over_tokens']
    attn = double_norm(
        logits, eps=options['eps'], mask=mask, over_tokens=over_tokens
    )
    value = value_memory.to(full).t()  # (C_v, S)
    low = None
    if weight is not None:
        centre, rstd, total, gram, count = saved
        low = centred(attn, centre[:, None], mask)
        scale = weight.to(full) * rstd
    elif dtype != full:
        centre = image_centre(attn, mask)
        low = centred(attn, centre, mask)
    low = attn if low is None else low
    # Both are balanced where they become float16, as in the forward pass.
    half = dtype == torch.float16
    factor = half_factor(low) if half else 1
    halved = (low / factor if half else low).to(dtype)
    valid = grad if mask is None else grad * mask[:, None]
    sums = valid.sum(-1, dtype=full)  # (B, C_v)
    dshift = sums.sum(0)
    dvalue = dy.bmm(halved.mT).to(full).sum(0) * factor  # (C_v, S)

    # Normalisation, in its three paths: scale, mean and variance.
    dweight = None
    if weight is not None:
        dweight = (value * dvalue).sum(1) * rstd
        group = options['group']
        # The sums over the batch that every token's gradient needs.
        mean_dy = sum_over(dshift, group) / count
        mean_dxhat = sum_over(dweight, group) / count * rstd
        scaled = scale[:, None] * value
        back = mean_dxhat[:, None] * value
        dvalue = scale[:, None] * (
            dvalue - torch.outer(mean_dy, total) - back @ gram
        )
        value = scaled
    elif low is not attn:
        dvalue = dvalue + (sums[:, :, None] * centre.mT).sum(0)
    rounded = (value.t() * factor).to(dtype)  # (S, C_v)
    dattn = rounded.expand(batch, -1, -1).bmm(dy)
    dattn = dattn.to(full)  # ours, to write over
    if half:
        dattn /= factor
    if weight is not None:
        # What these take away is nearly all of it where tokens are few: of
        # the same D, its rounding cancels as well.
        same = rounded.to(full) / factor
        dattn -= (same @ mean_dy)[:, None]
        gains = (same @ back).expand(batch, -1, -1)
        dattn.baddbmm_(gains, low, alpha=-1)

    # Double normalisation: over slots, then over tokens.
    dattn -= (dattn * attn).sum(1, keepdim=True)
    dlogits = dattn.mul_(attn)
    if over_tokens:
        over = dlogits.sum(-1, keepdim=True)
        dlogits.addcmul_(over, _token_softmax(logits, mask), value=-1)

    # The logits: a bias, summed before anything is rounded, and a product.
    dkey_bias = None if key_bias is None else dlogits.sum((0, 2))
    factor = half_factor(dlogits) if half else 1
    dlogits = (dlogits / factor if half else dlogits).to(dtype)
    if mask is not None:
        tokens = without_padding(tokens, mask)
    dkey = dlogits.bmm(tokens.to(dtype).mT).to(full).sum(0) * factor
    key = (key_memory.to(full).t() * factor).to(dtype)
    dtokens = add_product(
        grad,
        key.expand(batch, -1, -1),
        dlogits,
        add=options['residual'],
        inplace=options['relu'],
    )
    return (
        dtokens.to(tokens.dtype),
        dkey.to(key_memory.dtype),
        dvalue.t().to(value_memory.dtype),
        None if bias is None else dshift.to(bias.dtype),
        None if dweight is None else dweight.to(weight.dtype),
        None if dkey_bias is None else dkey_bias.to(key_bias.dtype),
        None,
        None,
    )


def _token_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        logits = logits.masked_fill(
            ~mask[:, None], torch.finfo(logits.dtype).min / 2
        )
    return softmax(logits, -1)
