from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmea.registry import HOOKS

__all__ = ['PlainMetaHook']


@HOOKS.register_module()
class PlainMetaHook(Hook):
    """Write the data set's ``metainfo`` into checkpoints in plain types.

    What a user puts there (a range, a defaultdict, a path) would else be
    pickled by its class, and the file be refused by all that read checkpoints
    without executing code: torch's ``weights_only=True`` and mmea. Every
    training of mmea's commands has this hook.
    """

    priority = 'VERY_LOW'  # after those that add something

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
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
