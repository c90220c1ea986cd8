"""The kernels as operators of torch, with all that it asks of one.

triton is imported where they run: torch for CPUs comes without.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..external_attention_block.low_rank import low_rank_forward

__all__ = ['HAS_TRITON', 'INTERPRETED', 'infer_op', 'train_op']

HAS_TRITON = find_spec('triton') is not None
# Triton's interpreter runs kernels on a CPU, slowly, to find errors.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_Nine = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]


@torch.library.custom_op('mmea::external_attention', mutates_args=())
def infer_op(
    x: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Compute the block without a gradient; on a CPU in the low-rank form."""
    options: dict[str, Any] = dict(
        eps=eps, residual=residual, relu=relu, dtype=dtype
    )
    if x.is_cuda or INTERPRETED:
        from .launch import infer

        return infer(x, key, value, bias, mask, **options)
    out, _, _ = low_rank_forward(
        x,
        key,
        value,
        bias,
        None,
        None,
        mask=mask,
        norm_eps=0.0,
        group=None,
        over_tokens=True,
        **options,
    )
    # Without a residual the product, which may have other strides.
    return torch.empty_like(x, dtype=out.dtype).copy_(out)


@infer_op.register_fake
def _(x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x, dtype=torch.promote_types(x.dtype, args[-1]))


@torch.library.custom_op('mmea::external_attention_train', mutates_args=())
def train_op(
    x: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    mask: Tensor | None,
    eps: float,
    norm_eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> _Nine:
    """Compute the block, and what ``Saved`` of launch_training.py says."""
    from .launch_training import train

    out, saved = train(
        x,
        key,
        value,
        bias,
        weight,
        mask,
        eps=eps,
        norm_eps=norm_eps,
        residual=residual,
        relu=relu,
        dtype=dtype,
    )
    return out, *saved


@train_op.register_fake
def _(x: Tensor, key: Tensor, *args: Any) -> tuple[Tensor, ...]:
    from .launch_training import Saved

    _, _, weight, _, _, _, _, relu, dtype = args
    out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, dtype))
    norm = weight is not None
    return out, *Saved.allocate(x, key.shape[0], norm=norm, relu=relu)


@torch.library.custom_op('mmea::external_attention_backward', mutates_args=())
def backward_op(
    grad: Tensor,
    x: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    mask: Tensor | None,
    saved: list[Tensor],
    eps: float,
    norm_eps: float,
    residual: bool,
    relu: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients that ``go_back`` of launch_training.py names."""
    from .launch_training import Saved, go_back

    return go_back(
        grad,
        x,
        key,
        value,
        weight,
        mask,
        Saved(*saved),
        eps=eps,
        norm_eps=norm_eps,
        residual=residual,
        relu=relu,
        dtype=dtype,
    )


@backward_op.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    *args: Any,
) -> tuple[Tensor, ...]:
    channels = x.shape[1]
    scales = 0 if weight is None else channels
    shapes = (key.shape, value.shape, (channels,), (scales,))
    floats = [x.new_empty(s, dtype=torch.float32) for s in shapes]
    return torch.empty_like(x), *floats


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, eps, norm_eps, residual, relu, dtype = inputs
    ctx.options = eps, norm_eps, residual, relu, dtype
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _go_back(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the kernels have no second derivative; take form='low_rank'"
        )
    x, key, value, bias, weight, mask, *saved = ctx.saved_tensors
    grads = backward_op(grad, x, key, value, weight, mask, saved, *ctx.options)
    found = [
        None if of is None else grad.to(of.dtype)
        for grad, of in zip(grads, (x, key, value, bias, weight))
    ]
    return *found, None, *[None] * len(ctx.options)


train_op.register_autograd(_go_back, setup_context=_keep)


def _count(
    products: int, squares: int, weight: Any, shape: Any, key: Any
) -> int:
    """Count those of S x C, and with a norm those of S x S, of a token."""
    batch, channels, tokens = shape
    squares = 0 if weight is None else squares * key[0]
    return 2 * batch * key[0] * tokens * (products * channels + squares)


def _count_inference(x: Any, key: Any, *args: Any, **kwargs: Any) -> int:
    # As of the low-rank form: what is computed again is no work done.
    return _count(2, 0, None, x, key)


def _count_training(
    x: Any, key: Any, value: Any, bias: Any, weight: Any, *_: Any, **__: Any
) -> int:
    return _count(2, 1, weight, x, key)


def _count_backward(
    grad: Any, x: Any, key: Any, value: Any, weight: Any, *_: Any, **__: Any
) -> int:
    return _count(4, 1, weight, x, key)


if HAS_TRITON:
    # Without triton torch would warn, and there is nothing to count.
    from torch.utils.flop_counter import register_flop_formula

    for op, formula in (
        (torch.ops.mmea.external_attention, _count_inference),
        (torch.ops.mmea.external_attention_train, _count_training),
        (torch.ops.mmea.external_attention_backward, _count_backward),
    ):
        register_flop_formula(op)(formula)
