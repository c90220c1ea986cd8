"""Look at the data that a config names before anything is built.

What is wrong with an annotation file otherwise shows late, or never: mmdet
drops boxes of unknown classes in silence, gives labels the wrong names, waits
for ever for the first image of an empty data set, and meets a missing image
in the middle of an epoch.
"""

from .check import check_data, check_heads, has_labels, use_labels_if_any
from .fingerprint import fingerprint

__all__ = [
    'check_data',
    'check_heads',
    'fingerprint',
    'has_labels',
    'use_labels_if_any',
]
