"""What runs a training: hooks, metrics, checkpoints, the launch."""

from mmea.registry import METRICS, register_missing

from .cpu_amp_optim_wrapper import CPUAmpOptimWrapper
from .hooks import SegLabelCheckHook, SegPictureHook

try:
    from .present_iou_metric import PresentIoUMetric
except ImportError as error:
    (PresentIoUMetric,) = register_missing(
        METRICS, ['PresentIoUMetric'], 'mmseg', error
    )

__all__ = [
    'CPUAmpOptimWrapper',
    'PresentIoUMetric',
    'SegLabelCheckHook',
    'SegPictureHook',
]
