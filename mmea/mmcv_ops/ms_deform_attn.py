"""Multi-scale deformable attention, by mmcv's own form in plain torch.

mmcv takes that form by itself on a CPU; its modules ask for the compiled op
on a GPU only.
"""

import torch
from torch import Tensor

from mmea.mmcv_ops.dtypes import as_computable

__all__ = ['ms_deform_attn_backward', 'ms_deform_attn_forward']


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum samples of several maps with given weights.

    Args:
        value (Tensor): (B, N, heads, D), the maps one after the other.
        value_spatial_shapes (Tensor): (levels, 2), their heights and widths.
        sampling_locations (Tensor): (B, Q, heads, levels, points, 2), x
            and y from 0 to 1.
        attention_weights (Tensor): (B, Q, heads, levels, points).

    Returns:
        Tensor: (B, Q, heads * D).
    """
    # That module asks for this one while it is being imported.
    from mmcv.ops.multi_scale_deform_attn import (
        multi_scale_deformable_attn_pytorch as plain,
    )

    v, locations, weights = map(
        as_computable, (value, sampling_locations, attention_weights)
    )
    return plain(v, value_spatial_shapes, locations, weights).to(value)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients; the rest as in the forward pass."""
    inputs = [
        t.detach().requires_grad_()
        for t in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            inputs[0],
            value_spatial_shapes,
            value_level_start_index,
            inputs[1],
            inputs[2],
            im2col_step,
        )
    grads = torch.autograd.grad(output, inputs, grad_output)
    for target, grad in zip(
        (grad_value, grad_sampling_loc, grad_attn_weight), grads
    ):
        target.copy_(grad)
