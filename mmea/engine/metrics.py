"""The registered metrics, each where its package can be imported."""

import warnings

from mmea.registry import METRICS, register_missing

try:
    with warnings.catch_warnings():
        # onedl's mmdet misses an optional package, and says so to everyone.
        warnings.filterwarnings('ignore', message='faster_coco_eval')
        from .present_coco_metric import PresentCocoMetric
except ImportError as error:
    (PresentCocoMetric,) = register_missing(
        METRICS, ['PresentCocoMetric'], 'mmdet', error
    )

try:
    from .present_iou_metric import PresentIoUMetric
except ImportError as error:
    (PresentIoUMetric,) = register_missing(
        METRICS, ['PresentIoUMetric'], 'mmseg', error
    )

__all__ = ['PresentCocoMetric', 'PresentIoUMetric']
