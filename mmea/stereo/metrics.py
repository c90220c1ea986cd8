from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmea.errors import UserError
from mmea.layers._checks import check_number
from mmea.registry import METRICS

__all__ = ['EndPointError']


@METRICS.register_module()
class EndPointError(BaseMetric):
    """How far disparities are off, over the pixels where they are known.

    ``EPE``, the mean of the absolute error in pixels; ``D1``, the share of
    pixels that are off by more than 3 pixels and by more than 5 %, as KITTI
    has it; ``bad_1`` and so on, the share of those that are off by more than
    so many pixels. Shares are in percent. Each is the mean over the images of
    what it is in one. Reads ``pred_disparity`` and ``gt_disparity`` of the
    data samples; NaN and inf in the latter are unknown.

    Args:
        thresholds (Sequence[float]): In pixels. Default: (1, 3).
        max_disp (float | None): Pixels of a larger true disparity are left
            out; 192 is published for Scene Flow. Default: None, none are.
        kwargs: Of mmengine's BaseMetric.

    Raises:
        ValueError: A threshold or ``max_disp`` is negative or no number.
        UserError: An image has no truth, or no known pixel; no image
            has one below ``max_disp``.
    """

    default_prefix = 'stereo'

    def __init__(
        self,
        *,
        thresholds: Sequence[float] = (1, 3),
        max_disp: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for threshold in thresholds:
            check_number(0, thresholds=threshold)
        if max_disp is not None:
            check_number(0, max_disp=max_disp)
        self.thresholds = tuple(thresholds)
        self.limit = np.inf if max_disp is None else max_disp

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            where = sample.get('img_path', 'an image')
            if 'gt_disparity' not in sample:
                raise UserError(
                    f'{where} has no true disparity to measure with; put it '
                    'beside the pair, or leave the pair out'
                )
            truth, found = (
                sample[key].cpu().numpy()
                for key in ('gt_disparity', 'pred_disparity')
            )
            known = np.isfinite(truth) & (truth < self.limit)
            if not np.isfinite(truth).any():
                raise UserError(
                    f'{where} has no pixel of a known disparity; leave the '
                    'pair out'
                )
            if not known.any():
                continue  # Scene Flow has pairs that are nearer throughout
            truth = truth[known]
            error = np.abs(found[known] - truth)
            # NaN is off, too.
            off = [~(error <= 3) & ~(error <= 0.05 * truth)]
            off += [~(error <= threshold) for threshold in self.thresholds]
            self.results.append(
                [error.mean(dtype=np.float64)]
                + [100 * wrong.mean() for wrong in off]
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        names = ['EPE', 'D1', *(f'bad_{t:g}' for t in self.thresholds)]
        if not results:
            raise UserError(
                f'no pixel has a true disparity below max_disp={self.limit}; '
                'raise it'
            )
        means = np.mean(results, axis=0)
        return {name: float(mean) for name, mean in zip(names, means)}
