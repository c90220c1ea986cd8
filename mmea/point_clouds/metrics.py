"""Overall and class accuracy; IoU of parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmea.registry import METRICS

__all__ = ['PartIoUMetric', 'PointAccuracyMetric', 'part_ious']


@METRICS.register_module()
class PointAccuracyMetric(BaseMetric):
    """How many clouds are told right: ``overall``, and ``class``, in percent.

    ``class`` is the mean over the classes that occur, each by itself. Reads
    ``gt_label`` and ``pred_label`` of the data samples.

    Args:
        guess (bool): Report ``guess`` too, what the most common class for
            all clouds would have. Default: False.
        kwargs: Of mmengine's BaseMetric.
    """

    default_prefix = 'accuracy'

    def __init__(self, *, guess: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.guess = guess

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
        metrics = {
            'overall': 100 * float(right.mean()),
            'class': 100 * float(np.mean(by_class)),
        }
        if self.guess:
            most = np.unique(labels, return_counts=True)[1].max()
            metrics['guess'] = 100 * float(most / len(labels))
        return metrics


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
        guess (bool): Report ``guess`` too, the ``instance_mIoU`` of naming
            all points of a cloud the most common part of its class.
            Default: False.
        kwargs: Of mmengine's BaseMetric.
    """

    default_prefix = 'parts'

    def __init__(
        self, *, per_class: bool = False, guess: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.per_class = per_class
        self.guess = guess

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label = int(sample['gt_label'])
            truth, found = (
                sample[key].cpu().numpy() for key in ('gt_parts', 'pred_parts')
            )
            own = self.dataset_meta['parts'][label]
            iou = float(np.mean(part_ious(truth, found, own)))
            counts = [int((truth == part).sum()) for part in own]
            self.results.append((label, iou, counts))

    def compute_metrics(self, results: list) -> dict[str, float]:
        labels, ious = (np.array(column) for column in list(zip(*results))[:2])
        names = self.dataset_meta['classes']
        by_class = {
            names[label]: 100 * float(ious[labels == label].mean())
            for label in np.unique(labels)
        }
        found = dict(
            instance_mIoU=100 * float(ious.mean()),
            class_mIoU=float(np.mean(list(by_class.values()))),
        )
        if self.guess:
            found['guess'] = 100 * float(np.mean(_guessed(results)))
        return found | by_class if self.per_class else found


def part_ious(
    truth: np.ndarray, found: np.ndarray, own: Sequence[int]
) -> list[float]:
    """Compute the IoU of each part of a class, over the points of a cloud.

    Args:
        truth (np.ndarray): Labels (N,).
        found (np.ndarray): Predictions (N,).
        own (Sequence[int]): Labels of the class's parts; one that is neither
            there nor predicted has 1.
    """
    ious = []
    for part in own:
        there, said = truth == part, found == part
        union = (there | said).sum()
        ious.append(float((there & said).sum() / union) if union else 1.0)
    return ious


def _guessed(results: list) -> list[float]:
    """IoU of each cloud if all its points got its class's commonest part."""
    found = []
    for label in {label for label, *_ in results}:
        counts = np.array([row for k, _, row in results if k == label])
        ious = (counts == 0).astype(float)  # neither there nor predicted
        best = counts.sum(0).argmax()
        ious[:, best] = counts[:, best] / counts.sum(1)
        found += ious.mean(1).tolist()
    return found
