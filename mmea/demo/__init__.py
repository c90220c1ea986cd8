"""Rendered scenes in the layouts of real data sets, for ``--demo``.

A wing; README.md tells what is where.
"""

from .demo_set import MANIFEST, write_demo
from .render import FIRST_VAL

__all__ = ['FIRST_VAL', 'MANIFEST', 'write_demo']
