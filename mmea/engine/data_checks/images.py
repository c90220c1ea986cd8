"""Look at the head of every image file before a training begins.

A file that is missing or broken otherwise ends a run when its turn comes: of
the validation set, after hours.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
from mmengine.config import ConfigDict

from mmea.datasets.image_head import Head, read_head
from mmea.errors import UserError
from mmea.files import cache_folder

from .files import shorten

__all__ = ['Sample', 'check_images']

IMAGE_LOADERS = {'LoadImageFromFile', 'LoadImage'}
LABEL_LOADERS = {'LoadAnnotations', 'LoadSegAnnotations'}


class Sample(NamedTuple):
    """The files of one image.

    Attributes:
        image (str): Path.
        label (str | None): Path of its label image.
        size (tuple[int, int] | None): (H, W) that its annotations are for.
    """

    image: str
    label: str | None = None
    size: tuple[int, int] | None = None


def check_images(
    samples: Sequence[Sample], dataset: ConfigDict, key: str
) -> None:
    """Raise if a file is missing, has no head, or not the size of its labels.

    A progress bar shows on a terminal. Files that were found good are
    remembered by name, size and time, in ``checked`` of
    :func:`mmea.files.cache_folder`, and not read again.

    Args:
        samples (Sequence[Sample]): The images of a data set.
        dataset (ConfigDict): Its config; files that its pipeline reads by
            another loader than the stack's only have to exist.
        key (str): Its place in the config.

    Raises:
        UserError: With the number of files, and the first of them.
    """
    steps = _steps(dataset.get('pipeline'))
    if not steps.keys() & LABEL_LOADERS:
        samples = [sample._replace(label=None) for sample in samples]
    files = [path for sample in samples for path in sample[:2] if path]
    missing = [path for path in files if not os.path.exists(path)]
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(files)} files of {key} are not '
            f'there: {shorten(missing)}; add them, or take their '
            'counterparts out of the data set'
        )
    if not steps.keys() & IMAGE_LOADERS:
        return
    exif = steps.get('LoadImage', {}).get('exif')
    passed = _cache_file(samples, files, exif)
    if passed.exists():
        return
    _check_heads(samples, exif, key)
    try:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
    except OSError:
        pass  # they are read again


def _steps(pipeline: Sequence | None) -> dict[str, dict]:
    """Name the steps of a pipeline, without their scopes."""
    named: dict[str, dict] = {}
    for step in pipeline or ():
        kind = step.get('type') if isinstance(step, dict) else None
        name = str(getattr(kind, '__name__', kind))
        named.setdefault(name.rpartition('.')[2], step)
    return named


def _cache_file(
    samples: Sequence[Sample], files: Sequence[str], exif: str | None
) -> Path:
    sha = hashlib.sha256(f'1 {exif} {[s.size for s in samples]}'.encode())
    for path in files:
        stat = os.stat(path)
        line = f'{os.path.abspath(path)} {stat.st_size} {stat.st_mtime_ns}\n'
        sha.update(line.encode(errors='surrogateescape'))
    return cache_folder() / 'checked' / sha.hexdigest()


def _check_heads(
    samples: Sequence[Sample], exif: str | None, key: str
) -> None:
    from rich.console import Console
    from rich.progress import track

    broken, unlike, unclear = [], [], []
    for image, label, size in track(
        samples,
        f'Checking {key}',
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ):
        head = read_head(image)
        if label:
            label_head = read_head(label)
            size = label_head and label_head.size
            if not size and not cv2.haveImageReader(label):
                broken.append(label)
        if not head:
            if not cv2.haveImageReader(image):
                broken.append(image)
        elif size:
            fits = _fits(head, size, exif)
            if not fits:
                unlike.append(
                    f'{image} is {head.size}, '
                    f'{label or "its annotations"} {size}'
                )
            elif head.orientation and fits == 2:
                unclear.append(image)
    if broken:
        raise UserError(
            f'{key} holds {len(broken)} files that cannot be decoded: '
            f'{shorten(broken)}; replace them, or take them out of the data '
            'set (--no-check begins all the same)'
        )
    if unlike:
        raise UserError(
            f'{key} holds {len(unlike)} images of another size (H, W) than '
            f'their labels: {"; ".join(unlike[:3])}; both must be of one size'
        )
    if unclear:
        raise UserError(
            f'{key} holds {len(unclear)} images with an EXIF orientation, '
            f'whose annotations fit them turned and as stored: '
            f"{shorten(unclear)}; set exif='apply' or exif='ignore' of their "
            "loader (type='mmea.LoadImage'), or store them without the tag"
        )


def _fits(head: Head, size: tuple[int, int], exif: str | None) -> int:
    """Count the ways to read an image that give it the size of its labels."""
    ways = dict(apply=head.upright_size, ignore=head.size)
    return [ways[exif]].count(size) if exif else [*ways.values()].count(size)
