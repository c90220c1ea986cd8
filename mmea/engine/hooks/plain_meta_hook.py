import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmea.registry import HOOKS

__all__ = ['PlainMetaHook']

VERSIONED = ('mmea', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain')


@HOOKS.register_module()
class PlainMetaHook(Hook):
    """Write ``metainfo`` into checkpoints in plain types, and versions.

    What a user puts into a data set's (a range, a defaultdict, a path) would
    else be pickled by its class, and the file be refused by all that read
    checkpoints without executing code: torch's ``weights_only=True`` and mmea.
    ``meta`` gets ``NAME_version`` of mmea and the stack, as mmengine's own.
    Every training of mmea's commands has this hook.
    """

    priority = 'VERY_LOW'  # after those that add something

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if meta := checkpoint.get('meta'):
            for name in VERSIONED:
                if name in sys.modules:
                    version = sys.modules[name].__version__
                    meta[f'{name}_version'] = str(version)
        for owner in (
            checkpoint.get('meta'),
            (checkpoint.get('message_hub') or {}).get('runtime_info'),
        ):
            if owner and 'dataset_meta' in owner:
                owner['dataset_meta'] = _plain(owner['dataset_meta'])


def _plain(value: Any) -> Any:
    """Copy a value in dicts, lists, tuples, arrays, numbers and text."""
    if type(value) in (str, int, float, bool, bytes, type(None)):
        return value
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, (list, set, frozenset, range)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind not in 'OV':
        return np.array(value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, Tensor) else str(value)
