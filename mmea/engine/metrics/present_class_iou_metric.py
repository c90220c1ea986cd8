from typing import Any

import torch

from mmea.errors import UserError
from mmea.registry import METRICS

from .class_iou_metric import ClassIoUMetric

__all__ = ['PresentClassIoUMetric']


@METRICS.register_module()
class PresentClassIoUMetric(ClassIoUMetric):
    """mmseg's IoUMetric over the classes that the ground truth holds.

    A small data set has few of ADE20K's 150 classes: the table shows those,
    and the mean is over them. False alarms still count, in the union of the
    class that they hit and as misses of the class that they cover.

    Args:
        per_class (bool): See :class:`ClassIoUMetric`. Default: False.
        kwargs: Of mmseg's IoUMetric.

    Raises:
        UserError: No labelled pixel in the whole ground truth.
    """

    def __init__(self, *, per_class: bool = False, **kwargs: Any) -> None:
        super().__init__(per_class=per_class, **kwargs)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if self.format_only:
            return super().compute_metrics(results)
        meta = self.dataset_meta
        present = torch.stack([areas[3] for areas in results]).sum(0) > 0
        if not present.any():
            raise UserError(
                'the ground truth has no pixel of any class: nothing to '
                'evaluate; check the label images and reduce_zero_label'
            )
        classes = [c for c, here in zip(meta['classes'], present) if here]
        try:
            self._dataset_meta = dict(meta, classes=classes)
            return super().compute_metrics(
                [tuple(area[present] for area in areas) for areas in results]
            )
        finally:
            self._dataset_meta = meta
