"""CaaM: networks that part causal from spurious features, and their training.

A wing: what it registers is named ``mmea.X`` as all else, and README.md tells
what is where. Its attention layers are rivals of the others and live with
them, in :mod:`mmea.layers`.

Source: arXiv:2108.08782.
"""

from .classifier import CaaMClassifier
from .misleading_scenes import MisleadingScenes
from .partition_hook import CaaMPartitionHook
from .resnet import CaaMResNet
from .t2t_vit import CaaMT2TViT

__all__ = [
    'CaaMClassifier',
    'CaaMPartitionHook',
    'CaaMResNet',
    'CaaMT2TViT',
    'MisleadingScenes',
]
