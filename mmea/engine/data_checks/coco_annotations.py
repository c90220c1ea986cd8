"""What of the images and annotations of a COCO file cannot be used.

mmdet leaves out a box without an area in silence, meets a key that is missing
in the middle of an epoch, and lets NaN into the evaluation, where it raises
the AP; pycocotools ends the process at a polygon far outside of its image, and
needs minutes for a mask whose runs are longer than the image.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log

from mmea.errors import UserError

__all__ = ['check_annotations']

_IMAGE_KEYS = ('id', 'file_name', 'width', 'height')
_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')


def check_annotations(
    content: dict, where: str, *, evaluated: bool, masks: bool
) -> int:
    """Raise if an annotation ends a run; say how many will be left out.

    Args:
        content (dict): Of the file, with images, annotations and categories.
        where (str): The file, for the errors.
        evaluated (bool): Whether predictions are compared with it, for which
            ``iscrowd`` is needed too.
        masks (bool): Whether ``segmentation`` is read.

    Returns:
        int: Number of annotations that mmdet trains with.

    Raises:
        UserError: A key is missing, an id is there twice, a number is none or
            not finite, or a mask does not fit its image.
    """
    images: dict[Any, dict] = {}
    for number, image in enumerate(content['images']):
        _need(image, _IMAGE_KEYS, f'image number {number}', where)
        name = f'the image {image["id"]}'
        for key in ('width', 'height'):
            if not _is_number(image[key]) or image[key] <= 0:
                raise UserError(
                    f'{where}: {name} has {key}={image[key]!r}; give its '
                    'size in pixels'
                )
        if not isinstance(image['file_name'], str):
            raise UserError(
                f'{where}: {name} has file_name={image["file_name"]!r}, '
                'which is no text'
            )
        if image['id'] in images:
            raise UserError(f'{where}: {name} is there twice; number anew')
        images[image['id']] = image
    categories = {category['id'] for category in content['categories']}
    keys = (*_KEYS, 'iscrowd') if evaluated else _KEYS
    seen = set()
    left: Counter[str] = Counter()
    annotations = content.get('annotations') or ()
    for number, annotation in enumerate(annotations):
        _need(annotation, keys, f'annotation number {number}', where)
        name = f'the annotation {annotation["id"]}'
        if annotation['id'] in seen:
            raise UserError(f'{where}: {name} is there twice; number anew')
        seen.add(annotation['id'])
        if evaluated and annotation['id'] == 0:
            raise UserError(
                f'{where}: an annotation has id=0, which pycocotools takes '
                'for one that nothing matches, so that the AP is too low; '
                'number from 1'
            )
        box = annotation['bbox']
        if not isinstance(box, list) or len(box) != 4:
            raise UserError(
                f'{where}: {name} has bbox={box!r}; write [x, y, width, '
                'height]'
            )
        for key, values in (('bbox', box), ('area', [annotation['area']])):
            if not all(map(_is_number, values)):
                raise UserError(
                    f'{where}: {name} has {key}={annotation[key]!r}, which '
                    'is not of finite numbers'
                )
        image = images.get(annotation['image_id'])
        if image is None:
            left['an image_id that is none of the images'] += 1
        elif annotation['category_id'] not in categories:
            left['a category_id that is none of the categories'] += 1
        elif annotation['area'] <= 0 or box[2] < 1 or box[3] < 1:
            left['a box below one pixel, or no area'] += 1
        elif _is_outside(box, image):
            left['a box outside of its image'] += 1
        elif masks:
            fault = _mask_fault(annotation.get('segmentation'), image)
            if fault:
                raise UserError(f'{where}: {name} has a segmentation {fault}')
    if left:
        kinds = ', '.join(f'{n} with {kind}' for kind, n in left.items())
        print_log(
            f'{where}: {sum(left.values())} of {len(annotations)} annotations '
            f'are left out ({kinds})',
            'current',
            level=logging.WARNING,
        )
    return len(annotations) - sum(left.values())


def _need(entry: Any, keys: tuple[str, ...], name: str, where: str) -> None:
    if not isinstance(entry, dict):
        raise UserError(f'{where}: {name} is {entry!r}, no dict')
    missing = [key for key in keys if key not in entry]
    if missing:
        if 'id' in entry:
            name = f'{name.split()[0]} {entry["id"]}'
        raise UserError(f'{where}: {name} has no {", ".join(missing)}')


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _is_outside(box: list, image: dict) -> bool:
    x, y, width, height = box
    return min(x + width, image['width']) <= max(x, 0) or min(
        y + height, image['height']
    ) <= max(y, 0)


def _mask_fault(mask: Any, image: dict) -> str | None:
    """Say what is wrong with a mask; None if nothing is."""
    height, width = image['height'], image['width']
    if isinstance(mask, list):
        if not mask:
            return 'without a polygon'
        for polygon in mask:
            if (
                not isinstance(polygon, list)
                or len(polygon) < 6
                or len(polygon) % 2
                or not all(map(_is_number, polygon))
            ):
                return (
                    'with a polygon that is no list of x, y of three points '
                    'or more'
                )
            if not all(
                -width <= x <= 2 * width and -height <= y <= 2 * height
                for x, y in zip(polygon[::2], polygon[1::2])
            ):
                return f'far outside of its image of {width} x {height}'
        return None
    if not isinstance(mask, dict) or not {'counts', 'size'} <= mask.keys():
        return f'that is {type(mask).__name__}: polygons or RLE are expected'
    if list(mask['size']) != [height, width]:
        return f'of the size {mask["size"]}, its image has {[height, width]}'
    counts = mask['counts']
    if isinstance(counts, str):
        counts = list(_runs(counts))
    if not isinstance(counts, list) or not all(
        type(n) is int and n >= 0 for n in counts
    ):
        return 'whose counts are no runs'
    if sum(counts) != height * width:
        return (
            f'whose counts are {sum(counts)} pixels, its image has '
            f'{height * width}'
        )
    return None


def _runs(text: str) -> Iterator[int]:
    """Read COCO's compressed counts: five bits a letter, differences by two.

    Source: pycocotools' description of the format.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        yield value
        value = shift = 0
