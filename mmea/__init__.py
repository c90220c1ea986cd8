"""External Attention for the OpenMMLab stack.

This module stays light: it imports no torch and no OpenMMLab package, because
configs, set-up and mmengine's registry look-up all import it.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from mmea import mmcv_ops, safe_loading

__all__ = [
    '__version__',
    'attention_maps',
    'config',
    'get_config',
    'list_attentions',
    'list_configs',
    'load',
    'swap_attention',
]

#: Where functions are that need torch and the stack.
LATE = dict(
    attention_maps='mmea.maps',
    load='mmea.inference',
    swap_attention='mmea.swap',
)

__version__ = '0.1.0'

# mmdet and mmseg import after this what mmcv may lack.
mmcv_ops.install()
# mmengine imports after this what reads checkpoints.
safe_loading.install()


def __getattr__(name: str) -> Any:
    # torch and mmengine are imported by whoever asks for them.
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    if name[:1].isupper():
        layers = import_module('mmea.layers')
        if name in layers.__all__:
            return getattr(layers, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    try:
        layers = list(list_attentions())
    except ImportError:  # no torch here
        layers = []
    return sorted({*globals(), *__all__, *layers})


def list_attentions() -> dict[str, str]:
    """List the attention layers, each with one line on it.

    Returns:
        dict[str, str]: Name, such as ``'ExternalAttention2d'``, which is
        ``mmea.ExternalAttention2d`` in Python (torch only) and in a config
        (``type='mmea.ExternalAttention2d'``); and the first line of its
        documentation. Sorted by name.
    """
    layers = import_module('mmea.layers')
    return {
        name: (getattr(layers, name).__doc__ or '').partition('\n')[0]
        for name in sorted(layers.__all__)
        if name[0].isupper() and name != 'AttentionBlock2d'
    }


def _config_root() -> Path:
    package = Path(__file__).parent.absolute()
    linked = package / '.mim' / 'configs'
    # A checkout made where links are not supported (Windows, some archives)
    # has the real folder only.
    return linked if linked.is_dir() else package.parent / 'configs'


def _list_configs() -> list[str]:
    root = _config_root()
    return sorted(p.relative_to(root).as_posix() for p in root.rglob('*.py'))


def list_configs() -> list[str]:
    """List the configs that mmea ships, without the ``_base_`` files.

    Returns:
        list[str]: Paths relative to the configs folder, sorted.
    """
    return [n for n in _list_configs() if not n.startswith('_base_/')]


def get_config(name: str) -> str:
    """Find a config that mmea ships, in a checkout or an installed wheel.

    A project inherits from it by
    ``_base_ = __import__('mmea').config('ea_fpn_ade20k.py')``, where
    ``config`` is the same function.

    Args:
        name (str): Path relative to mmea's configs folder, such as
            ``'ea_fpn_ade20k.py'``; ``.py`` may be left out.

    Returns:
        str: The absolute path.

    Raises:
        ValueError: No such config.
    """
    path = name if name.endswith('.py') else f'{name}.py'
    names = _list_configs()
    if path not in names:
        raise ValueError(
            f'mmea ships no config {name!r}{_suggest(path, names)}; '
            'mmea.list_configs() lists all'
        )
    return str(_config_root() / path)


config = get_config


def _suggest(path: str, names: list[str]) -> str:
    from difflib import get_close_matches

    if not path.startswith('_base_'):  # of no use by itself
        names = [n for n in names if not n.startswith('_base_')]
    # Compare the file name alone too: the folder is what people forget.
    by_leaf = {n.rsplit('/', 1)[-1]: n for n in names}
    leaves = get_close_matches(path.rsplit('/', 1)[-1], by_leaf, 3)
    close = get_close_matches(path, names, 3) or [by_leaf[n] for n in leaves]
    return f' (did you mean {" or ".join(map(repr, close))}?)' if close else ''
