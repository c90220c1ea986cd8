"""Attention surgery on built models of mmseg and mmdet.

:func:`swap_attention` puts members of the family where a model has non-local
blocks or self-attention; ``type='mmea.SwapAttention'`` does so from a config.
Classes of the stack are known by name, so that neither mmseg nor mmdet needs
to be there.
"""

from .config import wrap_in_swap
from .report import SwapReport
from .rules import SOURCES
from .surgery import swap_attention

__all__ = ['SOURCES', 'SwapReport', 'swap_attention', 'wrap_in_swap']
