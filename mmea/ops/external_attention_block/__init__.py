"""The block of external attention in three forms, each other's reference.

``naive.py`` is to be read, ``low_rank.py`` the same with a ninth of the
multiplications, ``low_rank_backward.py`` the latter with a backward pass of
its own that keeps little.
"""

from .low_rank import low_rank_block
from .low_rank_backward import low_memory_block
from .naive import BatchStats, external_attention_block

__all__ = [
    'BatchStats',
    'external_attention_block',
    'low_memory_block',
    'low_rank_block',
]
