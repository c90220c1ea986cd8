"""Functions on tensors. torch only."""

from .double_norm import double_norm
from .external_attention import external_attention
from .external_attention_block import BatchStats, external_attention_block
from .low_memory_block import low_memory_block
from .low_rank_block import low_rank_block

__all__ = [
    'BatchStats',
    'double_norm',
    'external_attention',
    'external_attention_block',
    'low_memory_block',
    'low_rank_block',
]
