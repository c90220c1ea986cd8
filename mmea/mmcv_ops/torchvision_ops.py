"""torchvision's operators, or one clear error."""

from typing import Any

import torch

__all__ = ['ops']


def _matching(release: str) -> str:
    """Name the torchvision of a torch: 0.27.1 for 2.12.1."""
    major, minor, patch = release.split('.')[:3]
    # True of every release from torch 2.0 and torchvision 0.15 on.
    return f'==0.{int(minor) + 15}.{patch}' if major == '2' else ''


def _load() -> Any:
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        release = torch.__version__.partition('+')[0]
        if isinstance(error, ModuleNotFoundError):
            found = 'torchvision, whose ops can take their place, is missing'
        else:
            # Built for another torch: a RuntimeError, an OSError, ...
            found = f'torchvision does not fit torch {release} ({error})'
        # mmseg of the onedl distribution catches this class alone, and does
        # without.
        raise ModuleNotFoundError(
            f'mmcv has no compiled ops, and {found}; install the pair: pip '
            f'install torch=={release} torchvision{_matching(release)}',
            name='mmcv._ext',
        ) from error
    return torch.ops.torchvision


ops = _load()
