"""Look at the data that a config names before anything is built.

What is wrong with an annotation file otherwise shows late, or never: mmdet
drops boxes of unknown classes in silence, gives labels the wrong names, waits
for ever for the first image of an empty data set, and meets a missing image
in the middle of an epoch.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict
from torch import nn

from mmea.engine.check_cls_data import (
    check_cls_data,
    cls_data_class,
    count_classes,
)
from mmea.engine.check_files import (
    check_folder,
    class_names,
    missing_files,
    own_copy,
    some,
)
from mmea.errors import UserError

__all__ = ['check_data', 'check_heads']


def check_data(cfg: Config, loader: str):
    """Raise if the data of a loader are not there or do not fit together.

    Folders and annotation files are looked for; of the data sets that mmdet
    reads as COCO files, and of those that mmpretrain reads as a list or as
    folders of classes, these are read too.

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
            _check_coco(
                dataset, key, class_names(coco, dataset, key), labelled
            )
        cls = cls_data_class(cfg, dataset)
        if cls:
            check_cls_data(dataset, key, class_names(cls, dataset, key))
    for key, metric in metrics:
        path = metric.get('ann_file')
        if path and not metric.get('backend_args') and not Path(path).exists():
            raise UserError(
                f'the annotation file {path} ({key}.ann_file) is missing; '
                f'set {key}.ann_file to the one of {loader}.dataset'
            )


def check_heads(model: nn.Module, cfg: Config, loader: str):
    """Raise if a model's heads and a data set differ in their classes.

    Those of detectors on COCO data sets, and those of classifiers.

    Args:
        model (nn.Module): The built model.
        cfg (Config): The whole config.
        loader (str): Key of a data loader.

    Raises:
        UserError: ``num_classes`` of a head is not the number of classes of
            the data set.
    """
    if not isinstance(model, nn.Module):  # FlexibleRunner builds it later
        return
    for key, dataset in _parts(cfg[loader]['dataset'], f'{loader}.dataset'):
        parts, want = _classifying_parts(cfg, dataset, key)
        for name, module in model.named_modules():
            number = getattr(module, 'num_classes', None)
            if number is None or getattr(module, 'class_agnostic', False):
                continue
            if want and number != want and re.search(parts, name):
                path = f'model.{name.removeprefix("module.")}.num_classes'
                raise UserError(
                    f'{path} is {number}, the data set has {want} classes '
                    f'({key}.metainfo.classes); set {path}={want}'
                )


def _classifying_parts(
    cfg: Config, dataset: ConfigDict, key: str
) -> tuple[str, int | None]:
    """Names of what counts the classes, and the number of the data set's."""
    coco = _coco_class(cfg, dataset)
    # With `return_classes` a head compares words, as many as it likes.
    if coco and not dataset.get('return_classes'):
        number = len(class_names(coco, dataset, key))
        return r'(^|\.)(bbox|mask)_head(\.\d+)?$', number
    cls = cls_data_class(cfg, dataset)
    if cls:
        number = count_classes(dataset, class_names(cls, dataset, key))
        return r'(^|\.)(head|data_preprocessor)$', number
    return '', None


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


def _folders(dataset: ConfigDict) -> Iterator[tuple[str, Path]]:
    """The folders of a data set, with their places in its config."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, str):
        yield 'data_prefix', Path(root, prefix)
    else:
        for name, part in prefix.items():
            yield f'data_prefix.{name}', Path(root, part or '')


def _check_files(dataset: ConfigDict, key: str):
    """Raise if a folder or an annotation file of a data set is not there."""
    for name, folder in _folders(dataset):
        check_folder(folder, name, dataset, key)
    ann_file = dataset.get('ann_file')
    path = Path(dataset.get('data_root') or '', ann_file or '')
    if ann_file and not path.exists():
        raise UserError(
            f'the annotation file {path} ({key}.ann_file) is missing; '
            f'{own_copy(dataset, key)}'
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
            f'{some(classes)}; choose another file, or other '
            f'{key}.metainfo.classes'
        )
    folder = Path(
        dataset.get('data_root') or '',
        (dataset.get('data_prefix') or {}).get('img') or '',
    )
    missing = missing_files(folder, images)
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(images)} images of {where} are not '
            f'in {folder}: {some(missing)}; add them, take them out of the '
            f'file, or set {key}.data_prefix.img'
        )


def _check_classes(
    names: dict[int, str], classes: tuple[str, ...], where: str, key: str
):
    unknown = [name for name in classes if name not in names.values()]
    if unknown:
        raise UserError(
            f'{where} has no category {some(unknown)}; its categories are '
            f'{some(list(names.values()), 20)}: set {key}.metainfo.classes '
            "(where that is not set, COCO's 80 are taken) and num_classes of "
            'the heads'
        )
    # mmdet numbers the labels in the order of the file.
    order = [name for name in names.values() if name in classes]
    if order != list(classes):
        raise UserError(
            f'{key}.metainfo.classes are in another order than the '
            f'categories of {where}, so that labels would get wrong names; '
            f'write them as {some(order, 20)}'
        )
