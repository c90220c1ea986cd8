"""RoI pooling, in plain torch: torchvision rounds the regions otherwise."""

import torch
from torch import Tensor

__all__ = ['roi_pool_backward', 'roi_pool_forward']


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the maximum of each cell of regions.

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (R, 5), index in the batch, x1, y1, x2, y2, whose last
            pixel is included.
        output (Tensor): (R, C, pooled_height, pooled_width), filled; 0 where
            a cell is empty.
        argmax (Tensor): As output, int32: index of the maximum in a map
            (H * W), -1 where a cell is empty; filled.
        spatial_scale (float): From the units of rois to pixels of input.
    """
    height, width = input.shape[2:]
    output.zero_()
    argmax.fill_(-1)
    for i, roi in enumerate(rois.float()):
        x1, y1 = roi[1:3] * spatial_scale
        x2, y2 = (roi[3:] + 1) * spatial_scale
        if x2 <= x1 or y2 <= y1:
            continue
        ys, some_row = _pixels(y1, y2, pooled_height, height)
        xs, some_column = _pixels(x1, x2, pooled_width, width)
        # (C, cells, ys, cells, xs) -> (C, cells, cells, ys * xs)
        values = input[int(roi[0])][:, ys][:, :, :, xs].transpose(2, 3)
        best = values.flatten(3).argmax(3)
        row = torch.arange(pooled_height, device=best.device)[:, None]
        column = torch.arange(pooled_width, device=best.device)
        best = (
            ys[row, best // xs.shape[1]] * width
            + xs[column, best % xs.shape[1]]
        )  # (C, cells, cells), in the map
        some = some_row[:, None] & some_column
        pooled = input[int(roi[0])].flatten(1).gather(1, best.flatten(1))
        output[i] = torch.where(some, pooled.view_as(best), 0)
        argmax[i] = torch.where(some, best, -1).int()


def _pixels(
    start: Tensor, end: Tensor, cells: int, size: int
) -> tuple[Tensor, Tensor]:
    """Index each cell's pixels, and tell whether it has any.

    A cell with fewer pixels than another repeats its last one, which leaves
    the first maximum where it is.
    """
    step = (end - start) / cells
    cell = torch.arange(cells).to(start)
    low = (cell * step + start).floor().clamp(0, size).long()
    high = ((cell + 1) * step + start).ceil().clamp(0, size).long()
    most = max(int((high - low).max()), 1)
    index = low[:, None] + torch.arange(most, device=start.device)
    index = torch.minimum(index, high[:, None] - 1).clamp(0, size - 1)
    return index, high > low


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``, zeros so far; the rest as in the forward pass."""
    c, h, w = grad_input.shape[1:]
    image = rois[:, 0].long().view(-1, 1, 1, 1)
    channel = torch.arange(c, device=rois.device).view(1, -1, 1, 1)
    where = argmax.long().clamp(min=0)
    grad_input.index_put_(
        (image, channel, where // w, where % w),
        grad_output * (argmax >= 0),
        accumulate=True,
    )
