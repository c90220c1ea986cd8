"""Stereo: the disparity of two views, by PSMNet with any attention.

A wing: what it registers is named ``mmea.X`` as all else, and README.md tells
what is where.

Source: arXiv:1803.08669; arXiv:1812.01243 for attention in it.
"""

from .data_preprocessor import StereoDataPreprocessor
from .metrics import EndPointError
from .middlebury import Middlebury
from .pfm import read_pfm
from .picture_hook import DisparityPictureHook
from .psmnet import PSMNet
from .scene_flow import SceneFlow
from .volume_attention import VolumeAttention

__all__ = [
    'DisparityPictureHook',
    'EndPointError',
    'Middlebury',
    'PSMNet',
    'SceneFlow',
    'StereoDataPreprocessor',
    'VolumeAttention',
    'read_pfm',
]
