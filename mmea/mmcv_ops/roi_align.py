"""RoIAlign: by torchvision for the average, in plain torch for the maximum."""

import math
from typing import Any

import torch
from torch import Tensor

from mmea.mmcv_ops.dtypes import as_computable
from mmea.mmcv_ops.torchvision_ops import ops

__all__ = ['roi_align_backward', 'roi_align_forward']

MAX = 0  # pool_mode; 1 is the average


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool regions of maps by bilinear samples.

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (R, 5), index in the batch, x1, y1, x2, y2.
        output (Tensor): (R, C, aligned_height, aligned_width), filled.
        argmax_y (Tensor): Of the maximum, as output: where it was, filled.
        argmax_x (Tensor): Likewise.
        spatial_scale (float): From the units of rois to pixels of input.
        sampling_ratio (int): Samples per side of a cell; 0: one per pixel.
        pool_mode (int): 0 maximum, 1 average.
        aligned (bool): Whether pixels are at their centres.
    """
    size = aligned_height, aligned_width
    x = as_computable(input)
    rois = rois.to(x)
    if pool_mode != MAX:
        output.copy_(
            ops.roi_align(
                x, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        )
        return
    for i, roi in enumerate(rois):
        ys, xs = _grid(roi, size, spatial_scale, sampling_ratio, aligned)
        # As mmcv, for a cell without a sample and values below it.
        output[i], argmax_y[i], argmax_x[i] = -10000, -1, -1
        if not ys.numel() or not xs.numel():
            continue
        values = _sample(x[int(roi[0])], ys.flatten(), xs.flatten())
        # (C, height, ys, width, xs) -> (C, height, width, ys * xs)
        values = values.unflatten(1, ys.shape).unflatten(3, xs.shape)
        values = values.transpose(2, 3).flatten(3)
        best, where = values.max(3)[0], values.argmax(3)
        row = torch.arange(size[0], device=x.device)[:, None]
        column = torch.arange(size[1], device=x.device)
        found = best > -10000
        output[i][found] = best[found].to(output)
        argmax_y[i][found] = ys[row, where // xs.shape[1]][found].to(output)
        argmax_x[i][found] = xs[column, where % xs.shape[1]][found].to(output)


def _grid(
    roi: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> list[Tensor]:
    """Place a region's samples: y (height, samples), x (width, samples)."""
    corners = roi[1:] * scale - (0.5 if aligned else 0)
    axes = []
    for cells, start, end in zip(size, corners[[1, 0]], corners[[3, 2]]):
        extent = end - start
        if not aligned:
            extent = extent.clamp(min=1)
        step = extent / cells
        samples = sampling_ratio or math.ceil(step)
        cell = torch.arange(cells).to(roi)[:, None]
        sample = torch.arange(samples).to(roi) + 0.5
        axes.append(start + cell * step + sample * step / max(samples, 1))
    return axes


def _neighbours(
    at: Tensor, size: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Both pixels beside a coordinate, their weights; zero outside."""
    inside = (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)
    low = at.floor()
    high_weight = at - low
    low = low.long()
    high = (low + 1).clamp(max=size - 1)
    return (low, high), ((1 - high_weight) * inside, high_weight * inside)


def _sample(x: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Sample (C, H, W) at a grid of coordinates: (C, len(ys), len(xs))."""
    rows, row_weights = _neighbours(ys, x.shape[1])
    columns, column_weights = _neighbours(xs, x.shape[2])
    total: Any = sum(
        wy[:, None] * wx * x[:, row][:, :, column]
        for row, wy in zip(rows, row_weights)
        for column, wx in zip(columns, column_weights)
    )
    return total


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, zeros so far; the rest as in the forward pass."""
    b, c, h, w = grad_input.shape
    grad = as_computable(grad_output)
    rois = rois.to(grad)
    if pool_mode != MAX:
        grad_input.copy_(
            ops._roi_align_backward(
                grad,
                rois,
                spatial_scale,
                aligned_height,
                aligned_width,
                *(b, c, h, w),
                sampling_ratio,
                aligned,
            )
        )
        return
    rows, row_weights = _neighbours(argmax_y.to(grad), h)
    columns, column_weights = _neighbours(argmax_x.to(grad), w)
    image = rois[:, 0].long().view(-1, 1, 1, 1)
    channel = torch.arange(c, device=grad.device).view(1, -1, 1, 1)
    grad = grad * (argmax_y != -1)
    total = grad_input.to(grad.dtype)
    for row, wy in zip(rows, row_weights):
        for column, wx in zip(columns, column_weights):
            place = (image, channel, row, column)
            total.index_put_(place, grad * wy * wx, accumulate=True)
    grad_input.copy_(total)
