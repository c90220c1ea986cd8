"""Deformable convolution, versions 1 and 2, by torchvision.

The geometry comes under mmcv's names; a kernel's size is that of its weight,
and mmcv's buffers (``columns``, ``ones``) and ``im2col_step`` belong to its
own algorithm and are not used.

Shapes: input (B, C, H, W), weight (C_out, C / groups, kH, kW), offset
(B, 2 * deform_groups * kH * kW, H_out, W_out) with y before x, mask half as
many channels, output (B, C_out, H_out, W_out).
"""

from operator import itemgetter

from torch import Tensor

from mmea.mmcv_ops.dtypes import as_computable
from mmea.mmcv_ops.torchvision_ops import ops

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
]

# In torchvision's order.
_PLAIN = itemgetter(
    *('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'),
    *('group', 'deformable_group'),
)
_MODULATED = itemgetter(
    *('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w'),
    *('group', 'deformable_group'),
)


def _tensors(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> list[Tensor]:
    """In torchvision's order, which wants tensors for what is not there."""
    x = as_computable(input)
    if mask is None:
        mask = x.new_zeros(len(x), 1)
    if bias is None or not bias.numel():
        bias = x.new_zeros(len(weight))
    return [x, *(t.to(x) for t in (weight, offset, mask, bias))]


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Fill ``output`` with the convolution."""
    tensors = _tensors(input, weight, offset)
    output.copy_(ops.deform_conv2d(*tensors, *_PLAIN(geometry), False))


def _plain_gradients(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    geometry: dict[str, int],
) -> tuple[Tensor, ...]:
    x, *others = _tensors(input, weight, offset)
    return ops._deform_conv2d_backward(
        grad_output.to(x), x, *others, *_PLAIN(geometry), False
    )


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    grads = _plain_gradients(input, weight, offset, grad_output, geometry)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1,
    **geometry: int,
) -> None:
    """Fill ``grad_weight``, times ``scale``."""
    weight = grad_weight  # for its shape: its values do not matter here
    grads = _plain_gradients(input, weight, offset, grad_output, geometry)
    grad_weight.copy_(grads[1] * scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Fill ``output`` with the convolution of samples times ``mask``."""
    tensors = _tensors(
        input, weight, offset, mask, bias if with_bias else None
    )
    output.copy_(ops.deform_conv2d(*tensors, *_MODULATED(geometry), True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Fill the five gradients."""
    x, *others = _tensors(input, weight, offset, mask)
    grads = ops._deform_conv2d_backward(
        grad_output.to(x), x, *others, *_MODULATED(geometry), True
    )
    targets = [grad_input, grad_weight, grad_offset, grad_mask]
    if with_bias:
        targets.append(grad_bias)
    for target, grad in zip(targets, grads):
        target.copy_(grad)
