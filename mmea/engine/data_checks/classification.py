"""Data of classification, as mmpretrain's CustomDataset reads them.

That is a list of images with the numbers of their classes, or, where there is
none, one folder for each class. What does not fit otherwise ends in an
assertion, in an index error of the loss, or in labels with wrong names.
"""

import os
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmea.errors import UserError

from .files import (
    check_folder,
    data_root_hint,
    missing_files,
    reading_type,
    shorten,
)
from .images import Sample

__all__ = ['HEADS', 'check', 'count_classes', 'find_class']

# As mmpretrain's, unless the data set has `extensions`.
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')

#: Names of the parts of a model that count the classes.
HEADS = r'(^|\.)(head|data_preprocessor)$'


def find_class(cfg: Config, dataset: ConfigDict) -> type | None:
    """Find the data set's class, if it reads files as CustomDataset does.

    ImageNet and ImageNet21k do.
    """
    return reading_type(cfg, dataset, 'mmpretrain', 'CustomDataset')


def check(
    cls: type,
    dataset: ConfigDict,
    key: str,
    classes: tuple[str, ...],
    labelled: bool,
) -> list[Sample]:
    """Raise if the images of a data set or their classes do not fit.

    Args:
        cls (type): That of :func:`find_class`.
        dataset (ConfigDict): Its config.
        key (str): Its place in the config.
        classes (tuple[str, ...]): Names of the classes; empty if the
            folders give them.
        labelled (bool): Whether the images' classes must be known.

    Returns:
        list[Sample]: The images that a list or the folders hold.

    Raises:
        UserError: A folder is missing or empty, folders and classes differ,
            or the list is malformed, holds unknown classes or images that
            are not there.
    """
    name, folder = _folder(dataset)
    where = f'the data set folder {folder} ({key}.{name})'
    check_folder(folder, name, dataset, key)
    path = _list_file(dataset)
    # ImageNet's test images have no labels.
    split = dataset.get('split')
    labelled &= dataset.get('with_label', True) and split != 'test'
    if path:
        images = _check_list(path, folder, key, classes, labelled)
    elif labelled:
        images = _check_folders(dataset, folder, where, key, classes)
    else:
        images = []
    return [Sample(image) for image in images]


def count_classes(dataset: ConfigDict, classes: tuple[str, ...]) -> int | None:
    """Count a data set's classes; None if only a list could tell."""
    if classes:
        return len(classes)
    if _list_file(dataset) or dataset.get('backend_args'):
        return None
    return len(_subfolders(dataset))


def _folder(dataset: ConfigDict) -> tuple[str, Path]:
    """Find the folder of the images, and its place in the config."""
    root = dataset.get('data_root') or ''
    for name in ('data_prefix', 'split'):
        prefix = dataset.get(name)
        if isinstance(prefix, dict):
            name, prefix = 'data_prefix.img_path', prefix.get('img_path')
        if prefix:
            return name, Path(root, prefix).expanduser()
    return 'data_root', Path(root).expanduser()


def _list_file(dataset: ConfigDict) -> Path | None:
    """Find the list of the images, if there is one."""
    root = dataset.get('data_root') or ''
    if dataset.get('ann_file'):
        return Path(root, dataset['ann_file']).expanduser()
    path = Path(root, f'meta/{dataset.get("split")}.txt')
    return path if path.is_file() else None


def _subfolders(dataset: ConfigDict) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(_folder(dataset)[1])
        if entry.is_dir()
    )


def _check_list(
    path: Path,
    folder: Path,
    key: str,
    classes: tuple[str, ...],
    labelled: bool,
) -> list[str]:
    where = f'the annotation file {path}'
    lines = path.read_text(encoding='utf-8').splitlines()
    if not lines:
        raise UserError(f'{where} holds no images; choose another file')
    images = lines
    if labelled:
        pairs = [line.strip().rpartition(' ')[::2] for line in lines]
        for number, (image, label) in enumerate(pairs, 1):
            if not image or not label.isdecimal():
                raise UserError(
                    f'line {number} of {where} is {lines[number - 1]!r}; it '
                    f'must be an image below {folder}, a space, and the '
                    'number of its class, from 0'
                )
        images = [image for image, _ in pairs]
        unknown = sorted({int(n) for _, n in pairs} - {*range(len(classes))})
        if classes and unknown:
            raise UserError(
                f'{where} holds the class numbers {shorten(unknown)}, outside '
                f'the {len(classes)} classes (0..{len(classes) - 1}); '
                f'correct the file or {key}.metainfo.classes'
            )
    missing = missing_files(folder, images)
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(images)} images of {where} are not '
            f'in {folder}: {shorten(missing)}; add them, take them out of the '
            f'file, or set {key}.data_root'
        )
    return [os.path.join(folder, image) for image in images]


def _check_folders(
    dataset: ConfigDict,
    folder: Path,
    where: str,
    key: str,
    classes: tuple[str, ...],
) -> list[str]:
    names = _subfolders(dataset)
    way_out = 'sort the images into one folder for each class' + (
        f', or list them with their classes in '
        f'{Path(dataset.get("data_root") or "", f"meta/{dataset.split}.txt")}'
        if dataset.get('split')
        else ''
    )
    if not names:
        raise UserError(f'{where} has no folder of a class; {way_out}')
    if classes and len(names) != len(classes):
        raise UserError(
            f'{where} has {len(names)} folders ({shorten(names)}), the data '
            f'set {len(classes)} classes; {way_out}, or set '
            f'{key}.metainfo.classes'
        )
    # Numbers go by the names of the folders.
    if set(classes) == set(names) and list(classes) != names:
        raise UserError(
            f'{key}.metainfo.classes are in another order than the folders '
            f'of {folder}, so that labels would get wrong names; write them '
            f'as {shorten(names, 20)}'
        )
    extensions = tuple(dataset.get('extensions') or EXTENSIONS)
    images = [
        os.path.join(parent, file)
        for parent, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(extensions)
    ]
    if not images:
        raise UserError(
            f'{where} holds no images ({", ".join(extensions)}); '
            f'{data_root_hint(dataset, key)}'
        )
    return images
