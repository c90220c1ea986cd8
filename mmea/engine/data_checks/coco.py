"""COCO annotation files, as mmdet's CocoDataset reads them."""

import json
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmea.errors import UserError

from .coco_annotations import check_annotations
from .files import missing_files, reading_type, shorten
from .images import Sample

__all__ = ['HEADS', 'check', 'count_classes', 'find_class']

#: Names of the parts of a model that count the classes.
HEADS = r'(^|\.)(bbox|mask)_head(\.\d+)?$'


def find_class(cfg: Config, dataset: ConfigDict) -> type | None:
    """Find the data set's class, if it reads files as CocoDataset does.

    LVIS and others derive from it and read files of their own kind.
    """
    return reading_type(cfg, dataset, 'mmdet', 'CocoDataset')


def count_classes(dataset: ConfigDict, classes: tuple[str, ...]) -> int | None:
    """Count a data set's classes; None if heads have no number of their own.

    With ``return_classes`` a head compares words, as many as it likes.
    """
    return None if dataset.get('return_classes') else len(classes)


def check(
    cls: type,
    dataset: ConfigDict,
    key: str,
    classes: tuple[str, ...],
    labelled: bool,
) -> list[Sample]:
    """Raise if a data set's annotation file and images do not fit.

    Args:
        cls (type): That of :func:`find_class`.
        dataset (ConfigDict): Its config.
        key (str): Its place in the config.
        classes (tuple[str, ...]): Names of the classes.
        labelled (bool): Whether there must be annotations.

    Returns:
        list[Sample]: The images of the file.

    Raises:
        UserError: The file is not in COCO format, holds no images or no
            annotations of these classes, has other categories or another
            order of them, an image or annotation that cannot be used
            (:func:`.coco_annotations.check_annotations`), or names images
            that are not there.
    """
    if not dataset.get('ann_file'):
        return []
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
            f'{shorten(classes)}; choose another file, or other '
            f'{key}.metainfo.classes'
        )
    if labelled:
        used = check_annotations(
            content,
            where,
            evaluated=bool(dataset.get('test_mode')),
            masks=_reads_masks(dataset),
        )
        if not used:
            raise UserError(
                f'{where} holds {len(labels)} annotations, none of which can '
                'be used (the warning above says why); correct the file'
            )
    folder = Path(
        dataset.get('data_root') or '',
        (dataset.get('data_prefix') or {}).get('img') or '',
    )
    missing = missing_files(folder, images)
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(images)} images of {where} are not '
            f'in {folder}: {shorten(missing)}; add them, take them out of the '
            f'file, or set {key}.data_prefix.img'
        )
    return [
        Sample(
            os.path.join(folder, image['file_name']),
            size=(image['height'], image['width']) if labelled else None,
        )
        for image in content['images']
    ]


def _reads_masks(dataset: ConfigDict) -> bool:
    return any(
        isinstance(step, dict) and step.get('with_mask')
        for step in dataset.get('pipeline') or ()
    )


def _check_classes(
    names: dict[int, str], classes: tuple[str, ...], where: str, key: str
) -> None:
    unknown = [name for name in classes if name not in names.values()]
    if unknown:
        raise UserError(
            f'{where} has no category {shorten(unknown)}; its categories are '
            f'{shorten(list(names.values()), 20)}: set {key}.metainfo.classes '
            "(where that is not set, COCO's 80 are taken) and num_classes of "
            'the heads'
        )
    # mmdet numbers the labels in the order of the file.
    order = [name for name in names.values() if name in classes]
    if order != list(classes):
        raise UserError(
            f'{key}.metainfo.classes are in another order than the '
            f'categories of {where}, so that labels would get wrong names; '
            f'write them as {shorten(order, 20)}'
        )
