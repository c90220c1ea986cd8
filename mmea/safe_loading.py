"""mmengine reads checkpoints without executing code, once mmea is imported.

A finder, as light as that of :mod:`mmea.mmcv_ops`: when somebody imports
mmengine's checkpoint module, its loaders are replaced by
:func:`mmea.engine.checkpoint.load_checkpoint`; nothing is imported before.
``MMEA_SAFE_LOADING=0`` in the environment undoes it.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ['install']

_MODULE = 'mmengine.runner.checkpoint'
_told = False


class _Finder:
    @classmethod
    def find_spec(
        cls, name: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(cls)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _replace_loaders(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Replace mmengine's loaders, now or when they are imported."""
    if os.environ.get('MMEA_SAFE_LOADING') == '0':
        return
    if module := sys.modules.get(_MODULE):
        _replace_loaders(module)
    elif _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def _replace_loaders(module: ModuleType) -> None:
    # Other schemes (torchvision://, openmmlab://, ...) call these by name.
    for name in ('load_from_local', 'load_from_http'):
        setattr(module, name, load_from_mmea)
    module.CheckpointLoader.register_scheme(
        prefixes=['', 'http://', 'https://'], loader=load_from_mmea, force=True
    )
    if hasattr(module, '_safe_torch_load'):
        module._safe_torch_load = _load_any  # type: ignore[attr-defined]


def load_from_mmea(
    filename: str, map_location: Any = None, **kwargs: Any
) -> dict[str, Any]:
    """Load by mmea; mmengine's log has the end of this name."""
    global _told
    if not _told:
        import_module('mmengine.logging').print_log(
            'checkpoints are read without executing code from them '
            '(mmea; MMEA_SAFE_LOADING=0 undoes it)',
            'current',
        )
        _told = True
    checkpoint = import_module('mmea.engine.checkpoint')
    return checkpoint.load_checkpoint(filename, map_location)


def _load_any(
    file: Any, map_location: Any = None, weights_only: bool | None = None
) -> Any:
    """Stand for mmengine's ``_safe_torch_load``, which may fall back."""
    if isinstance(file, (str, os.PathLike)):
        return load_from_mmea(str(file), map_location)
    return import_module('torch').load(
        file, map_location=map_location, weights_only=True
    )
