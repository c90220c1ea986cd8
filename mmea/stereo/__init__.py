"""Stereo: the disparity of two views, by PSMNet with any attention.

A wing: what it registers is named ``mmea.X`` as all else, and README.md tells
what is where.

Source: arXiv:1803.08669; arXiv:1812.01243 for attention in it.
"""

from .psmnet import PSMNet
from .volume_attention import VolumeAttention

__all__ = ['PSMNet', 'VolumeAttention']
