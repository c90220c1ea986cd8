"""What two configs differ in."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmea
from mmea.engine.config import load_config
from mmea.engine.hooks import keep_best
from mmea.engine.stock_configs import bases_by_module
from mmea.errors import UserError

__all__ = ['base_of', 'differences']

#: Where and how a run was started, not what was trained.
STARTED = ('work_dir', 'launcher', 'resume', 'load_from', 'auto_scale_lr')


class _Missing:
    def __repr__(self) -> str:
        return 'not set'


MISSING = _Missing()


def differences(old: Config, new: Config) -> list[tuple[str, str, str]]:
    """List the settings that two configs differ in.

    Lists of one length are compared item by item, others as a whole; a tuple
    is as good as a list. Where and how a run was started does not count.

    Args:
        old, new (Config): Whole configs.

    Returns:
        list[tuple[str, str, str]]: Dotted key, old and new value, as text;
        'not set' where there is none.
    """
    one, two = (
        {k: v for k, v in cfg.to_dict().items() if k not in STARTED}
        for cfg in (old, new)
    )
    return [(key, _text(a), _text(b)) for key, a, b in _compare(one, two, '')]


def base_of(cfg: Config, name: str | None = None) -> tuple[str, Config] | None:
    """Find what the config of a run was made from.

    A run's config is written down whole, without the names of its bases: it
    is compared with the config of its file's name that mmea or its package
    ships, with what ``--demo`` changes if the run was one; or with the base of
    the file of its name in the working directory, if it has one that is a
    whole config.

    Args:
        cfg (Config): Of the run.
        name (str | None): Of a config to compare with in its place.

    Returns:
        tuple[str, Config] | None: What it is, in words, and the base; None
        where nothing has the name.

    Raises:
        UserError: No config of that ``name``.
    """
    stem = Path(cfg.filename).name
    names = [n for n in mmea.list_configs() if Path(n).name == stem]
    known_names = [*names, f'{cfg.default_scope}:{stem}', *_bases(stem)]
    for known in [name] if name else known_names:
        try:
            base = load_config(known)
            demo = bool(cfg.get('demo_scenes') and base.get('demo_data'))
            if demo:
                base = load_config(known, demo=True)
            if not name and not base.get('train_dataloader'):
                continue  # a part, such as a model's
        except UserError:
            if name:
                raise
            continue
        keep_best(base)  # as the commands do
        return known + (' with --demo' if demo else ''), base
    return None


def _bases(name: str) -> list[str]:
    """Read which bases a user's own config names; none where it is not here.

    mmengine evaluates the line, as in any config that it reads.
    """
    if not Path(name).is_file():
        return []
    with suppress(Exception), bases_by_module():  # a config may be anything
        here = [str(base) for base in Config._get_base_files(name)]
        return [_known_as(base) for base in here if Path(base).is_file()]
    return []


def _known_as(path: str) -> str:
    root = Path(mmea.config('ea_fpn_ade20k.py')).parent
    own = Path(path).is_relative_to(root)
    return Path(path).relative_to(root).as_posix() if own else path


def _compare(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _compare(
                old.get(name, MISSING),
                new.get(name, MISSING),
                f'{key}.{name}' if key else str(name),
            )
        return
    lists = all(isinstance(value, (list, tuple)) for value in (old, new))
    if lists and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new)):
            yield from _compare(a, b, f'{key}.{i}')
    elif lists or old != new:
        yield key, old, new


def _text(value: Any) -> str:
    if isinstance(value, type) or callable(value):
        return f'{value.__module__}.{value.__qualname__}'
    return str(value) if isinstance(value, str) else repr(value)
