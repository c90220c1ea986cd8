"""What a model found in images: pictures, labels, tables.

A kind of task is a class here: it draws one image, keeps what it found, and
writes the files at the end.
"""

from typing import Any

from mmengine.structures import BaseDataElement

from .base import Results
from .classes import Classes
from .instances import Instances
from .labels import Labels

__all__ = ['Classes', 'Instances', 'Labels', 'Results', 'make_results']


def make_results(
    sample: BaseDataElement, *args: Any, **kwargs: Any
) -> Results:
    """Make the results of the kind that a data sample is of."""
    if 'pred_sem_seg' in sample:
        return Labels(*args, **kwargs)
    if 'pred_instances' in sample:
        return Instances(*args, **kwargs)
    return Classes(*args, **kwargs)
