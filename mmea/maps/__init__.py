"""What the members of a model look at, as maps. torch only."""

from .collect import attention_maps
from .result import AttentionMaps

__all__ = ['AttentionMaps', 'attention_maps']
