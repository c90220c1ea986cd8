"""The registered metrics, each where its package can be imported."""

import warnings

from mmea.registry import METRICS, register_missing

try:
    with warnings.catch_warnings():
        # onedl's mmdet misses an optional package, and says so to everyone.
        warnings.filterwarnings('ignore', message='faster_coco_eval')
        from .present_class_coco_metric import PresentClassCocoMetric
except ImportError as error:
    (PresentClassCocoMetric,) = register_missing(  # type: ignore[misc, assignment]
        METRICS, ['PresentClassCocoMetric'], 'mmdet', error
    )

try:
    from .class_iou_metric import ClassIoUMetric
    from .present_class_iou_metric import PresentClassIoUMetric
except ImportError as error:
    ClassIoUMetric, PresentClassIoUMetric = register_missing(  # type: ignore[misc, assignment]
        METRICS, ['ClassIoUMetric', 'PresentClassIoUMetric'], 'mmseg', error
    )

__all__ = [
    'ClassIoUMetric',
    'PresentClassCocoMetric',
    'PresentClassIoUMetric',
]
