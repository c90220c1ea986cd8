"""Point clouds: PCT, the transformer that EAT puts external attention into.

A wing: what it registers is named ``mmea.X`` as all else, and README.md tells
what is where. Its attention, :class:`mmea.layers.OffsetAttention1d`, lives
with the other layers.

Source: arXiv:2012.09688; arXiv:2105.02358 for external attention in it.
"""

from .blocks import build_point_attention
from .classifier import PointCloudClassifier
from .data_preprocessor import PointCloudDataPreprocessor
from .metrics import PartIoUMetric, PointAccuracyMetric
from .modelnet import ModelNet
from .part_segmentor import PointPartSegmentor
from .pct import PCT
from .picture_hook import CloudPictureHook
from .shapenet_part import ShapeNetPart

__all__ = [
    'PCT',
    'CloudPictureHook',
    'ModelNet',
    'PartIoUMetric',
    'PointAccuracyMetric',
    'PointCloudClassifier',
    'PointCloudDataPreprocessor',
    'PointPartSegmentor',
    'ShapeNetPart',
    'build_point_attention',
]
