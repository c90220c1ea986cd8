"""Overall and class accuracy; IoU of parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmea.registry import METRICS

__all__ = ['PartIoUMetric', 'PointAccuracyMetric']


@METRICS.register_module()
class PointAccuracyMetric(BaseMetric):
    """How many clouds are told right: ``overall``, and ``class``, in percent.

    ``class`` is the mean over the classes that occur, each by itself. Reads
    ``gt_label`` and ``pred_label`` of the data samples.

    Args:
        kwargs: Of mmengine's BaseMetric.
    """

    default_prefix = 'accuracy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label, found = (
                int(sample[key]) for key in ('gt_label', 'pred_label')
            )
            self.results.append((label, found))

    def compute_metrics(self, results: list) -> dict[str, float]:
        labels, found = np.array(results).T
        right = labels == found
        by_class = [right[labels == k].mean() for k in np.unique(labels)]
        return {
            'overall': 100 * float(right.mean()),
            'class': 100 * float(np.mean(by_class)),
        }


@METRICS.register_module()
class PartIoUMetric(BaseMetric):
    """IoU of parts: mean over the clouds, and over the classes, in percent.

    Of a cloud it is the mean over the parts of its class; a part that is
    neither there nor predicted has 1. ``instance_mIoU`` is the mean over all
    clouds, ``class_mIoU`` that over the classes that occur of the means over
    their clouds; a line of each class comes with ``per_class=True``. Reads
    ``gt_label``, ``gt_parts`` and ``pred_parts`` of the data samples, and
    from the data set's metainfo ``classes`` and their ``parts``, as
    :class:`ShapeNetPart` has them.

    Args:
        per_class (bool): Report each class too. Default: False.
        kwargs: Of mmengine's BaseMetric.
    """

    default_prefix = 'parts'

    def __init__(self, *, per_class: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.per_class = per_class

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label = int(sample['gt_label'])
            truth, found = (
                sample[key].cpu().numpy() for key in ('gt_parts', 'pred_parts')
            )
            ious = []
            for part in self.dataset_meta['parts'][label]:
                there, said = truth == part, found == part
                union = (there | said).sum()
                ious.append((there & said).sum() / union if union else 1.0)
            self.results.append((label, float(np.mean(ious))))

    def compute_metrics(self, results: list) -> dict[str, float]:
        labels, ious = (np.array(column) for column in zip(*results))
        names = self.dataset_meta['classes']
        by_class = {
            names[label]: 100 * float(ious[labels == label].mean())
            for label in np.unique(labels)
        }
        found = dict(
            instance_mIoU=100 * float(ious.mean()),
            class_mIoU=float(np.mean(list(by_class.values()))),
        )
        return found | by_class if self.per_class else found
