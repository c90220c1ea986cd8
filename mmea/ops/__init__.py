"""Functions on tensors. torch only."""

from .double_norm import double_norm
from .external_attention import external_attention

__all__ = ['double_norm', 'external_attention']
