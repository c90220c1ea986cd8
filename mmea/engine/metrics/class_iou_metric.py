from typing import Any

from mmseg.evaluation import IoUMetric

from mmea.registry import METRICS

__all__ = ['ClassIoUMetric']


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """mmseg's IoUMetric, with the IoU of each class among the results.

    mmseg prints them in a table only.

    Args:
        per_class (bool): Give ``IoU/NAME`` of each class, in percent.
            Default: True.
        kwargs: Of mmseg's IoUMetric.
    """

    def __init__(self, *, per_class: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.per_class = per_class

    def compute_metrics(self, results: list) -> dict[str, float]:
        metrics = super().compute_metrics(results)
        if self.per_class and not self.format_only:
            intersect, union = (sum(area) for area in list(zip(*results))[:2])
            for name, iou in zip(
                self.dataset_meta['classes'], 100 * intersect / union
            ):
                metrics[f'IoU/{name}'] = round(float(iou), 2)
        return metrics
