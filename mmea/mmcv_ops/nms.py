"""Non-maximum suppression."""

import torch
from torch import Tensor

from mmea.mmcv_ops.dtypes import as_computable
from mmea.mmcv_ops.torchvision_ops import ops

__all__ = ['nms', 'nms_match', 'softnms']


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0
) -> Tensor:
    """Keep the boxes that no better one overlaps, best first.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2.
        scores (Tensor): (N,).
        iou_threshold (float): Boxes above it go.
        offset (int): 1 if a box includes its last pixel. Default: 0.

    Returns:
        Tensor: Indices of those kept, int64.
    """
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], 1)
    # mmcv compares in float32, torchvision with a double: 0.3 would lie
    # below an IoU of float32's 0.3.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return ops.nms(as_computable(boxes), as_computable(scores), threshold)


def _iou(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of a box (4,) with boxes (N, 4)."""
    sides = torch.minimum(box[2:], boxes[:, 2:])
    sides = sides - torch.maximum(box[:2], boxes[:, :2]) + offset
    inter = sides.clamp(min=0).prod(1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    return inter / (area + areas - inter)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that a better one overlaps, on the CPU.

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        dets (Tensor): (N, 5), filled with the K boxes kept and their scores.
        iou_threshold (float): For methods 0 and 1.
        sigma (float): For method 2.
        min_score (float): Boxes whose score falls below it go.
        method (int): 0 naive, 1 linear, 2 Gaussian.
        offset (int): As in :func:`nms`.

    Returns:
        Tensor: Indices of the boxes in dets, (K,), int64.
    """
    rest, scores = boxes.clone(), scores.clone()
    inds = torch.arange(len(boxes))
    kept: list[Tensor] = []
    while len(inds):
        # mmcv swaps the best box with the first and fills a gap with the
        # last; the order decides between equal scores.
        best = int(scores.argmax())
        for values in (rest, scores, inds):
            values[[0, best]] = values[[best, 0]]
        dets[len(kept)] = torch.cat([rest[0], scores[:1]])
        kept.append(inds[0])
        iou = _iou(rest[0], rest[1:], offset)
        if method == 2:
            weight = torch.exp(-(iou * iou) / sigma)
        else:
            lowered = 1 - iou if method == 1 else torch.zeros_like(iou)
            weight = torch.where(iou >= iou_threshold, lowered, 1)
        scores[1:] *= weight
        order = _fill_gaps(scores[1:] >= min_score) + 1
        rest, scores, inds = rest[order], scores[order], inds[order]
    return torch.stack(kept) if kept else inds


def _fill_gaps(keep: Tensor) -> Tensor:
    """Index what is kept, the last ones moved into the gaps."""
    count = int(keep.sum())
    order = torch.arange(count)
    gaps = ~keep[:count]
    order[gaps] = torch.nonzero(keep[count:])[:, 0].flip(0) + count
    return order


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes: each one kept, then those that it suppresses.

    Args:
        dets (Tensor): (N, 5), boxes and scores, on the CPU.
        iou_threshold (float): Boxes at or above it go.

    Returns:
        list[list[int]]: Indices, the best first in each group.
    """
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        first, rest = order[0], order[1:]
        # 0 / 0, of two empty boxes, is no overlap, as in mmcv.
        hit = _iou(dets[first, :4], dets[rest, :4], 0) >= iou_threshold
        groups.append([int(first), *rest[hit].tolist()])
        order = rest[~hit]
    return groups
