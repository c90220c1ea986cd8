"""Tell one state of a data set from another."""

import hashlib
import os
from pathlib import Path

from mmengine.config import Config

from .files import data_folders, data_parts

__all__ = ['fingerprint']


def fingerprint(cfg: Config, *loaders: str) -> str:
    """Hash the annotation files, and names and sizes of all other files.

    Where the folders lie does not count, nor when they were written. Data
    that are not on this disk (``backend_args``) do not count either.

    Args:
        cfg (Config): The whole config.
        loaders (str): Keys of data loaders, such as ``'train_dataloader'``.

    Returns:
        str: 16 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for loader in loaders:
        for key, dataset in data_parts(cfg[loader]['dataset'], loader):
            if dataset.get('backend_args'):
                continue
            ann_file = dataset.get('ann_file')
            path = Path(dataset.get('data_root') or '', ann_file or '')
            if ann_file and path.is_file():
                sha.update(path.read_bytes())
            for name, folder in data_folders(dataset):
                sha.update(f'{key}.{name}\n'.encode())
                for line in sorted(_list(folder, '')):
                    sha.update(line.encode(errors='surrogateescape'))
    return sha.hexdigest()[:16]


def _list(folder: Path | str, inside: str) -> list[str]:
    lines = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = inside + entry.name
            if entry.is_dir():
                lines += _list(entry.path, f'{name}/')
            else:
                lines.append(f'{name} {entry.stat().st_size}\n')
    return lines
