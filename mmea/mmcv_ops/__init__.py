"""mmcv's compiled ops by torchvision, where mmcv was installed without them.

mmdet, and mmseg's stock release, import ``mmcv.ops``, and that a C++
extension, ``mmcv._ext``, which takes a compiler and a quarter of an hour to
build. :func:`install`, which ``import mmea`` calls, lets Python find
``ext.py`` beside this file under that name when it finds no other.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

__all__ = ['install']


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if name != 'mmcv._ext':
            return None
        return spec_from_file_location(name, Path(__file__).parent / 'ext.py')


def install() -> None:
    """Offer ``mmcv._ext`` to ``import``; light, imports no torch.

    The finder is the last to be asked, so it never hides compiled ops.
    """
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
