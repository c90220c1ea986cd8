"""Parts that the checks of every kind of data share."""

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmea.errors import UserError

__all__ = [
    'check_folder',
    'class_names',
    'data_folders',
    'data_names',
    'data_parts',
    'data_root_hint',
    'missing_files',
    'find_type',
    'reading_type',
    'shorten',
]

#: Classes of the stack for data of any origin.
FORMS = ('BaseSegDataset', 'BaseDetDataset', 'CustomDataset')


def find_type(
    cfg: Config, dataset: ConfigDict, scope: str, base: str
) -> type | None:
    """Find the class of a data set, if it derives from one of the stack.

    Args:
        cfg (Config): The whole config.
        dataset (ConfigDict): Of one data set.
        scope (str): Package that the config must be for.
        base (str): Name of a class of ``{scope}.datasets``.
    """
    if cfg.get('default_scope') != scope:
        return None
    cls = dataset.get('type')
    if isinstance(cls, str):
        cls = import_module(f'{scope}.registry').DATASETS.get(cls)
    wanted = getattr(import_module(f'{scope}.datasets'), base)
    return cls if isinstance(cls, type) and issubclass(cls, wanted) else None


def reading_type(
    cfg: Config, dataset: ConfigDict, scope: str, base: str
) -> type | None:
    """Find the class of a data set that reads files as one of the stack does.

    Args:
        cfg, dataset, scope, base: As for :func:`find_type`; a class that
            reads in another way is none of it, though it may derive from it.
    """
    cls: Any = find_type(cfg, dataset, scope, base)
    if cls is None:
        return None
    wanted = getattr(import_module(f'{scope}.datasets'), base)
    return cls if cls.load_data_list is wanted.load_data_list else None


def check_folder(
    folder: Path, name: str, dataset: ConfigDict, key: str
) -> None:
    """Raise if a folder of a data set, which ``name`` sets, has no files."""
    if not folder.is_dir():
        words = 'is missing'
    elif not any(folder.iterdir()):
        words = 'is empty'
    else:
        return
    raise UserError(
        f'the data set folder {folder} ({key}.{name}) {words}; '
        f'{data_root_hint(dataset, key)}'
    )


def data_root_hint(dataset: ConfigDict, key: str) -> str:
    """Say what to do when the data are not there."""
    root = dataset.get('data_root') or ''
    return (
        f'set {key}.data_root (now {root!r}) to your copy; configs of mmea '
        'run without a data set by --demo'
    )


def data_parts(
    dataset: ConfigDict, key: str
) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the data sets inside of RepeatDataset and its like."""
    if 'dataset' in dataset:
        yield from data_parts(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for i, part in enumerate(dataset['datasets']):
            yield from data_parts(part, f'{key}.datasets.{i}')
    else:
        yield key, dataset


def data_names(dataset: ConfigDict) -> list[str]:
    """Name the data sets in one: by their class, or by their folder.

    A class that reads whatever lies in a form, as those of ``mmea new``, says
    nothing of the data.
    """
    names = []
    for _, part in data_parts(dataset, ''):
        kind = part.get('type')
        name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
        own = name in FORMS or (name == 'CocoDataset' and part.get('metainfo'))
        folders = [Path(part.get('data_root') or '')]
        folders += [folder for _, folder in data_folders(part)]
        named = [folder.name for folder in folders if folder.name]
        names.append(f'{named[0]} ({name})' if own and named else name)
    return list(dict.fromkeys(names))


def data_folders(dataset: ConfigDict) -> Iterator[tuple[str, Path]]:
    """Yield the folders of a data set, with their places in its config."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, str):
        yield 'data_prefix', Path(root, prefix)
    else:
        for name, part in prefix.items():
            yield f'data_prefix.{name}', Path(root, part or '')


def class_names(
    cls: type[Any], dataset: ConfigDict, key: str
) -> tuple[str, ...]:
    """Read the names of the classes; empty where the files give them."""
    metainfo = dict(dataset.get('metainfo') or {})
    if dataset.get('classes'):  # mmpretrain takes them here too
        metainfo.setdefault('classes', dataset['classes'])
    classes = cls._load_metainfo(metainfo).get('classes', ())
    if isinstance(classes, str):
        raise UserError(
            f'{key}.metainfo.classes is the text {classes!r} and no such '
            f'file; for a single class write ({classes!r},) with a comma'
        )
    return tuple(classes)


def missing_files(folder: Path, images: list[str]) -> list[str]:
    """List the images that are not there, by one look into each folder."""
    found = {}
    missing = []
    for name in images:
        parent, file = os.path.split(name)  # of millions: no Path
        if parent not in found:
            try:
                found[parent] = set(os.listdir(folder / parent))
            except OSError:
                found[parent] = set()
        if file not in found[parent]:
            missing.append(name)
    return missing


def shorten(names: Sequence, number: int = 5) -> str:
    """Write the first few of a list of names."""
    rest = len(names) - number
    return ', '.join(map(repr, list(names)[:number])) + (
        f' and {rest} more' if rest > 0 else ''
    )
