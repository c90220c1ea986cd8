"""torchvision's operators, or one clear error."""

from typing import Any

import torch

from mmea.mmcv_ops.pip_commands import pair

__all__ = ['ops']


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
            f'install {pair(release)}',
            name='mmcv._ext',
        ) from error
    return torch.ops.torchvision


ops = _load()
