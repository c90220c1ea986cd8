"""Attention to the window around each pixel, in two forms.

``naive.py`` is to be read, ``tiled.py`` the same by matrix products of tiles.
"""

from .naive import neighbours, plain_local_logits, plain_local_sum, slide
from .tiled import local_logits, local_sum

__all__ = [
    'local_logits',
    'local_sum',
    'neighbours',
    'plain_local_logits',
    'plain_local_sum',
    'slide',
]
