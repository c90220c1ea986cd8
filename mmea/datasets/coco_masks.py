"""COCO annotations to the label pictures of semantic segmentation."""

import json
import sys
from pathlib import Path, PurePosixPath

import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image

from mmea.errors import UserError
from mmea.files import whole, write_text

try:
    from pycocotools import mask as coco_mask
except ImportError as error:
    raise UserError(
        'masks of COCO annotations need pycocotools: pip install pycocotools'
    ) from error

__all__ = ['coco_to_masks']

# Annotation tools often end a polygon a little outside of the picture.
SLACK = 1.0
MAX_CLASSES = 254  # labels are bytes and 255 means ignored


def _fill(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """Mask of one annotation, polygons or run lengths: bool (H, W)."""
    if not segmentation:
        return np.zeros((height, width), bool)
    runs = segmentation
    if isinstance(segmentation, list):
        runs = coco_mask.merge(
            coco_mask.frPyObjects(segmentation, height, width)
        )
    elif isinstance(segmentation['counts'], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(runs) == 1


def _load(ann_file: str | Path) -> dict[str, list[dict]]:
    """Read the annotation file and check the three lists that we need."""
    path = Path(ann_file)
    if not path.is_file():
        raise FileNotFoundError(
            f'ann_file={str(path)!r} is not a file; give '
            'the JSON file with COCO annotations'
        )
    try:
        coco = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f'ann_file={str(path)!r} is no valid JSON: {error}'
        ) from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(coco, dict) or not isinstance(coco.get(key), list):
            raise ValueError(
                f'ann_file={str(path)!r} has no list {key!r}; '
                'COCO needs images, annotations and categories'
            )
    for key in ('images', 'categories'):
        if not coco[key]:
            raise ValueError(
                f'ann_file={str(path)!r} has an empty list {key!r}'
            )
    return coco


def _labels(categories: list[dict]) -> dict[int, int]:
    """Category id -> label, by rising id, from 1."""
    ids = sorted(category['id'] for category in categories)
    if len(set(ids)) < len(ids) or len(ids) > MAX_CLASSES:
        raise ValueError(
            f'category ids must be unique and at most {MAX_CLASSES}, got {ids}'
        )
    return {number: label for label, number in enumerate(ids, 1)}


def _targets(images: list[dict]) -> dict[int, PurePosixPath]:
    """Image id -> relative name of its PNG."""
    targets = {}
    for image in images:
        name = PurePosixPath(image.get('file_name', ''))
        if not name.name or name.is_absolute() or '..' in name.parts:
            raise ValueError(
                'file_name must be a relative path below the '
                f'image folder, got {image=}'
            )
        for side in ('height', 'width'):
            if not isinstance(image.get(side), int) or image[side] < 1:
                raise ValueError(
                    f'{side} must be a number of pixels, at '
                    f'least 1, got {image=}'
                )
        targets[image['id']] = name.with_suffix('.png')
    if len(set(targets.values())) < len(images):
        raise ValueError(
            'two images have the same id, or the same '
            'file_name up to the suffix'
        )
    return targets


def _check(annotation: dict, image: dict) -> None:
    """Raise ValueError for a segmentation that does not fit its image."""
    where = f'annotation id={annotation.get("id")} of {image["file_name"]!r}'
    size = image['height'], image['width']
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, dict):
        counts = segmentation.get('counts')
        if (
            tuple(segmentation.get('size', ())) != size
            or not isinstance(counts, (list, str))
            or isinstance(counts, list)
            and sum(counts) != size[0] * size[1]
        ):
            raise ValueError(
                f'{where}: the RLE must have counts for size={list(size)}'
            )
        return
    if not isinstance(segmentation, list):
        raise ValueError(
            f'{where}: segmentation must be polygons or RLE, '
            f'got {segmentation!r}'
        )
    for polygon in segmentation:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
        ):
            raise ValueError(
                f'{where}: a polygon must be [x, y, ...] of at '
                f'least 3 corners, got {polygon}'
            )
        points = np.reshape(polygon, (-1, 2)).astype(float)
        inside = (points >= -SLACK) & (points <= np.add(size[::-1], SLACK))
        if not inside.all():
            raise ValueError(
                f'{where}: the polygon leaves the image of '
                f'height, width = {size}, got {polygon}'
            )


def coco_to_masks(
    ann_file: str | Path,
    out_dir: str | Path,
    *,
    list_file: str | Path | None = None,
) -> dict:
    """Draw the objects of a COCO file into one label PNG per image.

    Label 0 is background; the categories, by rising id, are 1 to K. Smaller
    objects lie over larger ones. A pixel belongs to an object when its
    centre does, to a fifth of a pixel: pycocotools fills, as it does for
    mmdet's masks and COCO's AP. An image without objects gives a picture of
    zeros.

    The whole file is checked before the first picture is written.

    Args:
        ann_file (str | Path): JSON file with COCO annotations: polygons or
            RLE.
        out_dir (str | Path): Folder for the pictures, made if needed. They
            are named as the images (``a/b.jpg``: ``a/b.png``); older ones
            of these names are replaced.
        list_file (str | Path | None): Where to list the images, one name
            without suffix per line: the ``ann_file`` of a data set whose
            splits share a folder of images. Default: None, nowhere.

    Returns:
        dict: ``metainfo`` for a data set class of mmseg: ``classes``, the
        names in the order of the labels, ``'background'`` first. To ignore
        the background set ``reduce_zero_label=True`` and drop that name.

    Raises:
        FileNotFoundError: There is no ``ann_file``.
        ValueError: It is no COCO file, or lists no image or category; an
            image lacks its size; two images share a name; more than 254
            categories; a segmentation is malformed, of an unknown image or
            category, or more than 1 pixel outside of its image.
        OSError: A picture cannot be written.
    """
    coco = _load(ann_file)
    labels, targets = _labels(coco['categories']), _targets(coco['images'])
    images = {image['id']: image for image in coco['images']}
    objects: dict[int, list[dict]] = {number: [] for number in images}
    for annotation in coco['annotations']:
        for key, known in (('image_id', images), ('category_id', labels)):
            if annotation.get(key) not in known:
                raise ValueError(
                    f'annotation id={annotation.get("id")}: {key}='
                    f'{annotation.get(key)} is not in the file'
                )
        _check(annotation, images[annotation['image_id']])
        objects[annotation['image_id']].append(annotation)

    for number in track_iter_progress(list(images), file=sys.stdout):
        height, width = images[number]['height'], images[number]['width']
        picture = np.zeros((height, width), np.uint8)
        drawn = [
            (
                _fill(annotation['segmentation'], height, width),
                labels[annotation['category_id']],
            )
            for annotation in objects[number]
        ]
        for mask, label in sorted(drawn, key=lambda item: -item[0].sum()):
            picture[mask] = label
        with whole(Path(out_dir, targets[number])) as path:
            Image.fromarray(picture).save(path)
    if list_file is not None:
        lines = (str(Path(name).with_suffix('')) for name in targets.values())
        write_text(list_file, '\n'.join(lines))
    names = {
        category['id']: category['name'] for category in coco['categories']
    }
    return dict(classes=('background', *(names[key] for key in labels)))
