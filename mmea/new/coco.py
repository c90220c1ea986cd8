"""A COCO file, made fit for mmdet."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import cv2

from mmea.datasets.image_head import read_head
from mmea.engine.data_checks.files import missing_files, shorten
from mmea.errors import UserError

__all__ = ['complete', 'find_images', 'read_coco', 'take']


def read_coco(path: str) -> dict:
    """Read a COCO file, as far as mmdet needs it.

    Args:
        path (str): Of JSON.

    Returns:
        dict: With images, annotations and categories, none of them empty.

    Raises:
        UserError: It cannot be read or is not in COCO format.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        for image in content['images']:
            {image['id']}, str.encode(image['file_name'])
        for annotation in content['annotations']:
            {annotation['image_id'], annotation['category_id']}
            x, y, width, height = annotation['bbox']
            float(x + y + width * height)
        for category in content['categories']:
            {category['id']}, str.encode(category['name'])
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}') from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise UserError(
            f'{path} is not in COCO format ({type(error).__name__}: {error}); '
            'it must be JSON with images, annotations that have a bbox, and '
            'categories'
        ) from error
    for key in ('images', 'annotations', 'categories'):
        if not content[key]:
            raise UserError(f'{path} holds no {key}; choose another file')
    return content


def find_images(content: dict, path: str, given: str | None) -> Path:
    """Find the folder in which most of the images are.

    Args:
        content (dict): Of a COCO file.
        path (str): Of the file; the folder is looked for beside it.
        given (str | None): The folder, if it is known.

    Returns:
        Path: That the file names are in.

    Raises:
        UserError: None of the images is found.
    """
    names = [image['file_name'] for image in content['images']]
    beside = Path(path).parent
    stem = Path(path).stem
    folders = (
        [Path(given)]
        if given
        else [
            parent / name
            for parent in (beside, beside.parent)
            for name in ('', 'images', stem, stem.rpartition('_')[2])
        ]
    )
    there = [len(names) - len(missing_files(f, names)) for f in folders]
    best = max(range(len(folders)), key=there.__getitem__)
    if not there[best]:
        raise UserError(
            f'none of the {len(names)} images of {path} ({names[0]!r}, ...) '
            f'is in {" or ".join(map(str, dict.fromkeys(folders)))}; give '
            'their folder by --images'
        )
    return folders[best]


def complete(
    content: dict, folder: Path, path: str, warnings: list[str]
) -> dict:
    """Leave out what cannot be learnt; add what mmdet cannot do without.

    That is the size of an image, and area and iscrowd of an annotation.
    Annotations are numbered from 1, as to pycocotools an id of 0 is no match.

    Args:
        content (dict): Of a COCO file; stays as it is.
        folder (Path): That the file names are in.
        path (str): Of the file, for messages.
        warnings (list[str]): Those of this file are added.

    Returns:
        dict: One entry for each image that is there, and its annotations.

    Raises:
        UserError: Two images have one id, or no annotation is left.
    """
    entries, ids = _merge(content['images'], path)
    images, told = _check_images(entries, folder)
    counts = Counter(ids.values())
    told['have several entries, whose annotations are merged'] = [
        name for name, image in entries.items() if counts[image['id']] > 1
    ]
    content = take(
        dict(
            content,
            annotations=[
                dict(a, image_id=ids.get(a['image_id']))
                for a in content['annotations']
            ],
        ),
        images,
    )
    annotations, bad, beyond = _check_boxes(content)
    content['annotations'] = [
        dict(
            a,
            id=number,
            iscrowd=a.get('iscrowd') or 0,
            area=a.get('area') or a['bbox'][2] * a['bbox'][3],
        )
        for number, a in enumerate(annotations, 1)
    ]
    own = [
        f'{len(names)} images of {path} {words}: {shorten(names, 10)}'
        for words, names in told.items()
        if names
    ]
    if bad:
        own.append(
            f'{bad} boxes of {path} are left out: their width or height is '
            'not above 0, or a number is not finite'
        )
    if beyond:
        own.append(
            f'{beyond} of {len(annotations)} boxes of {path} reach beyond '
            'their images; COCO has x, y, width, height: are these x1, y1, '
            'x2, y2?'
        )
    if not annotations:
        raise UserError(
            f'no image of {path} that is in {folder} has an annotation that '
            f'can be used{": " if own else ""}{"; ".join(own)}; give the '
            'folder of its images by --images, or mend the file'
        )
    warnings += own
    return content


def take(content: dict, images: list[dict]) -> dict:
    """Take some of the images with their annotations.

    Args:
        content (dict): Of a COCO file; stays as it is.
        images (list[dict]): Some of its images.

    Returns:
        dict: With all categories.
    """
    ids = {image['id'] for image in images}
    return dict(
        images=images,
        annotations=[
            a for a in content['annotations'] if a['image_id'] in ids
        ],
        categories=content['categories'],
    )


def _merge(images: list[dict], path: str) -> tuple[dict, dict]:
    """Keep one entry of each file, by name; and its id by all its ids."""
    entries: dict[str, dict] = {}
    ids: dict = {}
    names: dict = {}
    for image in images:
        name = os.path.normpath(image['file_name'])
        first = entries.setdefault(name, image)
        if names.setdefault(image['id'], name) != name:
            raise UserError(
                f'the images {names[image["id"]]!r} and {name!r} of {path} '
                f'have the same id, {image["id"]!r}, so that their '
                'annotations cannot be told apart; give each image its own'
            )
        ids[image['id']] = first['id']
    return entries, ids


def _check_images(
    entries: dict[str, dict], folder: Path
) -> tuple[list[dict], dict[str, list[str]]]:
    """Keep the images that fit their files; what is wrong with the others."""
    missing = set(missing_files(folder, list(entries)))
    images, broken, unlike = [], [], []
    for name, image in entries.items():
        if name in missing:
            continue
        file = os.path.join(folder, name)
        head = read_head(file)
        size = head.upright_size if head else None
        if image.get('height') and image.get('width'):
            size = image['height'], image['width']
        if not size or not head and not cv2.haveImageReader(file):
            broken.append(name)
        elif head and size != head.upright_size:
            unlike.append(f'{name}: {size}, on disk {head.upright_size}')
        else:
            images.append(dict(image, height=size[0], width=size[1]))
    return images, {
        f'are not in {folder} and are left out': sorted(missing),
        'cannot be decoded and are left out': broken,
        'have another size (H, W) on disk and are left out; if their boxes '
        'are right, take width and height out of the file': unlike,
    }


def _check_boxes(content: dict) -> tuple[list[dict], int, int]:
    """Keep the annotations with a box; count the others, and overhangs."""
    sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
    kept, beyond = [], 0
    for annotation in content['annotations']:
        x, y, width, height = box = annotation['bbox']
        if not all(map(math.isfinite, box)) or min(width, height) <= 0:
            continue
        kept.append(annotation)
        right, bottom = sizes[annotation['image_id']]
        # A pixel more or less is a matter of counting from 0 or 1.
        beyond += (
            min(x, y) < -1 or x + width > right + 1 or y + height > bottom + 1
        )
    return kept, len(content['annotations']) - len(kept), beyond
