"""What the checks of every kind of data share."""

import os
from pathlib import Path

from mmengine.config import ConfigDict

from mmea.errors import UserError

__all__ = ['check_folder', 'class_names', 'missing_files', 'own_copy', 'some']


def check_folder(folder: Path, name: str, dataset: ConfigDict, key: str):
    """Raise if a folder of a data set, which ``name`` sets, has no files."""
    if not folder.is_dir():
        words = 'is missing'
    elif not any(folder.iterdir()):
        words = 'is empty'
    else:
        return
    raise UserError(
        f'the data set folder {folder} ({key}.{name}) {words}; '
        f'{own_copy(dataset, key)}'
    )


def own_copy(dataset: ConfigDict, key: str) -> str:
    """What to do when the data are not there."""
    root = dataset.get('data_root') or ''
    return (
        f'set {key}.data_root (now {root!r}) to your copy, or try '
        '--demo, which needs no data set'
    )


def class_names(cls: type, dataset: ConfigDict, key: str) -> tuple[str, ...]:
    """Names of a data set's classes; empty where its files give them."""
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
    """The images that are not there, by one look into each folder."""
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


def some(names, number: int = 5) -> str:
    """The first few of a list of names."""
    rest = len(names) - number
    return ', '.join(map(repr, list(names)[:number])) + (
        f' and {rest} more' if rest > 0 else ''
    )
