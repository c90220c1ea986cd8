"""The checks of all kinds of data; a kind is a module beside this one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from torch import nn

from mmea.errors import UserError

from . import classification, coco, segmentation
from .files import (
    check_folder,
    class_names,
    data_folders,
    data_parts,
    data_root_hint,
)
from .images import check_images

__all__ = ['check_data', 'check_heads', 'has_labels', 'use_labels_if_any']

#: A new kind has the same four names: ``find_class``, ``check``,
#: ``count_classes`` and ``HEADS``.
KINDS = (coco, classification, segmentation)

#: Where data sets of mmseg and mmdet have label images.
LABEL_FOLDERS = ('data_prefix.seg_map_path', 'data_prefix.seg')


def check_data(cfg: Config, loader: str) -> None:
    """Raise if the data of a loader are not there or do not fit together.

    Folders and annotation files are looked for. Those of mmseg's data sets,
    of those that mmdet reads as COCO files, and of those that mmpretrain
    reads as a list or as folders of classes, are read too, with the head of
    each image.

    Args:
        cfg (Config): The whole config.
        loader (str): Key of a data loader, such as ``'val_dataloader'``.

    Raises:
        UserError: What is missing or wrong, and where the config names it.
    """
    labelled = has_labels(cfg, loader)
    for key, dataset in data_parts(
        cfg[loader]['dataset'], f'{loader}.dataset'
    ):
        if dataset.get('backend_args'):  # not on this disk
            continue
        _check_files(dataset, key, labelled)
        for kind in KINDS:
            cls = kind.find_class(cfg, dataset)
            if cls:
                classes = class_names(cls, dataset, key)
                samples = kind.check(cls, dataset, key, classes, labelled)
                check_images(samples, dataset, key)
    for key, metric in _metrics(cfg, loader):
        path = metric.get('ann_file')
        if path and not metric.get('backend_args') and not Path(path).exists():
            raise UserError(
                f'the annotation file {path} ({key}.ann_file) is missing; '
                f'set {key}.ann_file to the one of {loader}.dataset'
            )


def has_labels(cfg: Config, loader: str) -> bool:
    """Whether what a loader gives is compared with labels.

    A test server keeps the ground truth to itself, and some folders of
    pictures have none: ``format_only=True`` of a metric says so.
    """
    return not any(m.get('format_only') for _, m in _metrics(cfg, loader))


def use_labels_if_any(cfg: Config, loader: str) -> None:
    """Set ``format_only`` where predictions are written and no labels are.

    Args:
        cfg (Config): The whole config, whose metrics of segmentation have an
            ``output_dir`` or not.
        loader (str): Key of a data loader.
    """
    writing = [m for _, m in _metrics(cfg, loader) if m.get('output_dir')]
    parts = data_parts(cfg[loader]['dataset'], loader)
    if writing and not any(_finds_labels(dataset) for _, dataset in parts):
        for metric in writing:
            metric['format_only'] = True
        print_log('No label images: predictions are written only', 'current')


def _finds_labels(dataset: ConfigDict) -> bool:
    if dataset.get('backend_args') or 'data_prefix' not in dataset:
        return True  # not on this disk, or where only its class knows
    suffix = dataset.get('seg_map_suffix', '.png')
    return any(
        file.endswith(suffix)
        for name, folder in data_folders(dataset)
        if name in LABEL_FOLDERS
        for _, _, files in os.walk(folder)
        for file in files
    )


def check_heads(model: nn.Module, cfg: Config, loader: str) -> None:
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
    for key, dataset in data_parts(
        cfg[loader]['dataset'], f'{loader}.dataset'
    ):
        for kind in KINDS:
            cls = kind.find_class(cfg, dataset)
            if cls:
                classes = class_names(cls, dataset, key)
                want = kind.count_classes(dataset, classes)
                _check_numbers(model, kind.HEADS, want, key)


def _check_numbers(
    model: nn.Module, heads: str, want: int | None, key: str
) -> None:
    for name, module in model.named_modules():
        number = getattr(module, 'num_classes', None)
        if number is None or getattr(module, 'class_agnostic', False):
            continue
        if want and number != want and re.search(heads, name):
            path = f'model.{name.removeprefix("module.")}.num_classes'
            raise UserError(
                f'{path} is {number}, the data set has {want} classes '
                f'({key}.metainfo.classes); set {path}={want}'
            )


def _metrics(cfg: Config, loader: str) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the metrics of a loader, with their places in the config."""
    key = loader.replace('dataloader', 'evaluator')
    metrics = cfg.get(key) or ()
    if isinstance(metrics, dict):
        yield key, metrics
    else:
        yield from ((f'{key}.{i}', m) for i, m in enumerate(metrics))


def _check_files(dataset: ConfigDict, key: str, labelled: bool) -> None:
    """Raise if a folder or an annotation file of a data set is not there."""
    for name, folder in data_folders(dataset):
        if labelled or name not in LABEL_FOLDERS:
            check_folder(folder, name, dataset, key)
    ann_file = dataset.get('ann_file')
    path = Path(dataset.get('data_root') or '', ann_file or '')
    if ann_file and not path.exists():
        raise UserError(
            f'the annotation file {path} ({key}.ann_file) is missing; '
            f'{data_root_hint(dataset, key)}'
        )
