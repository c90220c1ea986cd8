"""Look at the data that a config names before anything is built.

What is wrong with an annotation file otherwise shows late, or never: mmdet
drops boxes of unknown classes in silence, gives labels the wrong names, waits
for ever for the first image of an empty data set, and meets a missing image
in the middle of an epoch.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict
from torch import nn

from mmea.errors import UserError

__all__ = ['check_data', 'check_heads']


def check_data(cfg: Config, loader: str):
    """Raise if the data of a loader are not there or do not fit together.

    Folders and annotation files are looked for; of the data sets that mmdet
    reads as COCO files the file is read too.

    Args:
        cfg (Config): The whole config.
        loader (str): Key of a data loader, such as ``'val_dataloader'``.

    Raises:
        UserError: What is missing or wrong, and where the config names it.
    """
    metrics = list(_metrics(cfg, loader))
    # A test server keeps the ground truth to itself.
    labelled = not any(metric.get('format_only') for _, metric in metrics)
    for key, dataset in _parts(cfg[loader]['dataset'], f'{loader}.dataset'):
        if dataset.get('backend_args'):  # not on this disk
            continue
        _check_files(dataset, key)
        coco = _coco_class(cfg, dataset)
        if coco and dataset.get('ann_file'):
            _check_coco(dataset, key, _classes(coco, dataset, key), labelled)
    for key, metric in metrics:
        path = metric.get('ann_file')
        if path and not metric.get('backend_args') and not Path(path).exists():
            raise UserError(
                f'the annotation file {path} ({key}.ann_file) is missing; '
                f'set {key}.ann_file to the one of {loader}.dataset'
            )


def check_heads(model: nn.Module, cfg: Config, loader: str):
    """Raise if a detector's heads and a data set differ in their classes.

    Args:
        model (nn.Module): The built model.
        cfg (Config): The whole config.
        loader (str): Key of a data loader.

    Raises:
        UserError: ``num_classes`` of a box head or mask head is not the
            number of classes of a COCO data set.
    """
    if not isinstance(model, nn.Module):  # FlexibleRunner builds it later
        return
    for key, dataset in _parts(cfg[loader]['dataset'], f'{loader}.dataset'):
        coco = _coco_class(cfg, dataset)
        # With `return_classes` a head compares words, as many as it likes.
        if not coco or dataset.get('return_classes'):
            continue
        want = len(_classes(coco, dataset, key))
        for name, module in model.named_modules():
            head = re.search(r'(^|\.)(bbox|mask)_head(\.\d+)?$', name)
            number = getattr(module, 'num_classes', want)
            if not head or getattr(module, 'class_agnostic', False):
                continue
            if number != want:
                path = f'model.{name.removeprefix("module.")}.num_classes'
                raise UserError(
                    f'{path} is {number}, the data set has {want} classes '
                    f'({key}.metainfo.classes); set {path}={want}'
                )


def _metrics(cfg: Config, loader: str) -> Iterator[tuple[str, ConfigDict]]:
    """The metrics of a loader, with their places in the config."""
    key = loader.replace('dataloader', 'evaluator')
    metrics = cfg.get(key) or ()
    if isinstance(metrics, dict):
        yield key, metrics
    else:
        yield from ((f'{key}.{i}', m) for i, m in enumerate(metrics))


def _parts(dataset, key: str) -> Iterator[tuple[str, ConfigDict]]:
    """The data sets inside of RepeatDataset, ConcatDataset and the like."""
    if 'dataset' in dataset:
        yield from _parts(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for i, part in enumerate(dataset['datasets']):
            yield from _parts(part, f'{key}.datasets.{i}')
    else:
        yield key, dataset


def _check_files(dataset: ConfigDict, key: str):
    """Raise if a folder or an annotation file of a data set is not there."""
    root = dataset.get('data_root') or ''
    hint = (
        f'set {key}.data_root (now {root!r}) to your copy, or try '
        '--demo, which needs no data set'
    )
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        folder = Path(root, prefix or '')
        if not folder.is_dir():
            raise UserError(
                f'the data set folder {folder} ({key}.data_prefix.'
                f'{name}) is missing; {hint}'
            )
        if not any(folder.iterdir()):
            raise UserError(
                f'the data set folder {folder} ({key}.data_prefix.'
                f'{name}) is empty; {hint}'
            )
    ann_file = dataset.get('ann_file')
    if ann_file and not Path(root, ann_file).exists():
        raise UserError(
            f'the annotation file {Path(root, ann_file)} ({key}.'
            f'ann_file) is missing; {hint}'
        )


def _coco_class(cfg: Config, dataset: ConfigDict) -> type | None:
    """The data set's class, if it reads files as mmdet's CocoDataset does."""
    if cfg.get('default_scope') != 'mmdet':
        return None
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    cls = dataset.get('type')
    cls = DATASETS.get(cls) if isinstance(cls, str) else cls
    # LVIS and others derive from it and read files of their own kind.
    reads = getattr(cls, 'load_data_list', None)
    return cls if reads is CocoDataset.load_data_list else None


def _classes(cls: type, dataset: ConfigDict, key: str) -> tuple[str, ...]:
    classes = cls._load_metainfo(dataset.get('metainfo')).get('classes', ())
    if isinstance(classes, str):
        raise UserError(
            f'{key}.metainfo.classes is the text {classes!r} and no such '
            f'file; for a single class write ({classes!r},) with a comma'
        )
    return tuple(classes)


def _check_coco(
    dataset: ConfigDict, key: str, classes: tuple[str, ...], labelled: bool
):
    path = Path(dataset.get('data_root') or '', dataset['ann_file'])
    where = f'the annotation file {path} ({key}.ann_file)'
    try:
        content = json.loads(path.read_bytes())
        names = {c['id']: c['name'] for c in content['categories']}
        images = [image['file_name'] for image in content['images']]
        labels = [a['category_id'] for a in content.get('annotations') or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{where} is not in COCO format '
            f'({type(error).__name__}: {error}); it must be JSON with images, '
            'annotations and categories'
        ) from error
    if not images:
        raise UserError(f'{where} holds no images; choose another file')
    _check_classes(names, classes, where, key)
    if labelled and not labels:
        raise UserError(
            f'{where} holds no annotations; choose another file'
            + (
                ', or set format_only=True in the evaluator to write '
                'predictions only'
                if dataset.get('test_mode')
                else ''
            )
        )
    if labelled and not any(names.get(i) in classes for i in labels):
        raise UserError(
            f'{where} holds {len(labels)} annotations, and none of '
            f'{_some(classes)}; choose another file, or other '
            f'{key}.metainfo.classes'
        )
    folder = Path(
        dataset.get('data_root') or '',
        (dataset.get('data_prefix') or {}).get('img') or '',
    )
    missing = _missing(folder, images)
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(images)} images of {where} are not '
            f'in {folder}: {_some(missing)}; add them, take them out of the '
            f'file, or set {key}.data_prefix.img'
        )


def _check_classes(
    names: dict[int, str], classes: tuple[str, ...], where: str, key: str
):
    unknown = [name for name in classes if name not in names.values()]
    if unknown:
        raise UserError(
            f'{where} has no category {_some(unknown)}; its categories are '
            f'{_some(list(names.values()), 20)}: set {key}.metainfo.classes '
            "(where that is not set, COCO's 80 are taken) and num_classes of "
            'the heads'
        )
    # mmdet numbers the labels in the order of the file.
    order = [name for name in names.values() if name in classes]
    if order != list(classes):
        raise UserError(
            f'{key}.metainfo.classes are in another order than the '
            f'categories of {where}, so that labels would get wrong names; '
            f'write them as {_some(order, 20)}'
        )


def _missing(folder: Path, images: list[str]) -> list[str]:
    """The images that are not there, by one look into each folder."""
    found = {}
    missing = []
    for name in images:
        path = folder / name
        if path.parent not in found:
            try:
                found[path.parent] = set(os.listdir(path.parent))
            except OSError:
                found[path.parent] = set()
        if path.name not in found[path.parent]:
            missing.append(name)
    return missing


def _some(names, number: int = 5) -> str:
    """The first few of a list of names."""
    rest = len(names) - number
    return ', '.join(map(repr, list(names)[:number])) + (
        f' and {rest} more' if rest > 0 else ''
    )
