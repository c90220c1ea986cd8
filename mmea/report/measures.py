"""How well one image was predicted, from 0 to 1."""

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ['MEASURES', 'measure', 'measure_of']

#: Of the fields of a sample, what is measured, in words.
MEASURES = dict(
    pred_sem_seg='mean IoU over the classes in the truth of the image',
    pred_instances='F1 of the boxes: pairs of one class with IoU of 0.5 or '
    'more, predictions with a score of 0.3 or more',
    pred_score='probability of the true class',
)
SCORE, OVERLAP = 0.3, 0.5


def measure_of(sample: BaseDataElement) -> str:
    """Say in words what :func:`measure` measures of a sample."""
    return next((MEASURES[k] for k in MEASURES if k in sample), 'nothing')


def measure(sample: BaseDataElement, ignored: int = 255) -> float | None:
    """Measure the prediction of one image against its truth.

    Args:
        sample (BaseDataElement): Of mmseg, mmdet or mmpretrain, with both.
        ignored (int): Label of pixels that do not count. Default: 255.

    Returns:
        float | None: See :data:`MEASURES`; None without a truth.
    """
    if 'pred_sem_seg' in sample and 'gt_sem_seg' in sample:
        return _mean_iou(
            sample.pred_sem_seg.data,
            sample.gt_sem_seg.data,
            ignored,
        )
    if 'pred_instances' in sample and 'gt_instances' in sample:
        found, truth = sample.pred_instances, sample.gt_instances
        found = found[found.scores >= SCORE]
        found = found[found.scores.argsort(descending=True)]
        boxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
        return _f1(found.bboxes, found.labels, boxes, truth.labels)
    if 'pred_score' in sample and 'gt_label' in sample:
        return float(sample.pred_score[sample.gt_label].sum())
    return None


def _mean_iou(found: Tensor, truth: Tensor, ignored: int) -> float | None:
    found, truth = found.flatten().cpu(), truth.flatten().cpu()
    known = truth != ignored
    found, truth = found[known], truth[known]
    ious = []
    for label in truth.unique():
        both = ((found == label) & (truth == label)).sum()
        ious.append(both / ((found == label) | (truth == label)).sum())
    return float(torch.stack(ious).mean()) if ious else None


def _f1(
    boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor
) -> float:
    total = len(boxes) + len(true_boxes)
    if not total:
        return 1.0  # nothing there, nothing found
    overlap = box_iou(boxes.float().cpu(), true_boxes.float().cpu())
    overlap *= labels.cpu()[:, None] == true_labels.cpu()[None]
    pairs = 0
    for row in overlap:  # the surest first; each takes the best that is left
        if len(row) and row.max() >= OVERLAP:
            pairs += 1
            overlap[:, row.argmax()] = 0
    return 2 * pairs / total
