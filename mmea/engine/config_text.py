"""A whole config as Python, which reads back as the same config."""

import tempfile
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmea.errors import UserError, in_one_line

__all__ = ['config_diff', 'config_text']


def config_text(cfg: Config) -> str:
    """Write a config as Python without bases.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.

    Returns:
        str: A file's content, which mmengine reads back as the same.

    Raises:
        UserError: A value has no such text, or reads back as another.
    """
    with in_one_line(f'cannot write {cfg.filename} as Python'):
        text = cfg.pretty_text
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'config.py')
            path.write_text(text, encoding='utf-8')
            again = Config.fromfile(path)
    for key, old, new in _changed(cfg.to_dict(), again.to_dict(), ''):
        raise UserError(
            f'{cfg.filename}: {key}={old!r} has no text in a config: it '
            f'reads back as {new!r}; write it as a string, a number, a list, '
            'a tuple or a dict of them'
        )
    return text.rstrip() + '\n'


def config_diff(old: Config, new: Config) -> str:
    """Tell what is different between two configs, line by line.

    Returns:
        str: A unified diff of their texts; '' where they are the same.
    """
    before, after = (
        config_text(cfg).splitlines(keepends=True) for cfg in (old, new)
    )
    names = str(old.filename), str(new.filename)
    return ''.join(unified_diff(before, after, *names))


def _changed(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield where two values differ: dotted key, and both."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _changed(
                old.get(name), new.get(name), f'{key}.{name}'.lstrip('.')
            )
    elif isinstance(old, (list, tuple)) and type(old) is type(new):
        if len(old) != len(new):
            yield key, old, new
        for index, (a, b) in enumerate(zip(old, new)):
            yield from _changed(a, b, f'{key}.{index}')
    # NaN is not equal to itself.
    elif type(old) is not type(new) or repr(old) != repr(new):
        yield key, old, new
