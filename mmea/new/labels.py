"""The ids in label images, and copies with other ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmea.datasets import LoadSegAnnotations
from mmea.errors import UserError
from mmea.files import whole

__all__ = ['count_ids', 'find_palette', 'read_ids', 'write_labels']

MOST_COLOURS = 20


def read_ids(path: str | Path) -> np.ndarray:
    """Read a label image at full depth, as a training does.

    Args:
        path (str | Path): Grey or palette image, whose indices are the ids.

    Returns:
        np.ndarray: uint8 or int32 (H, W).

    Raises:
        UserError: It cannot be decoded or holds no ids.
    """
    results = dict(seg_map_path=str(path), seg_fields=[])
    return LoadSegAnnotations().transform(results)['gt_seg_map']


def count_ids(
    paths: Sequence[str | Path],
) -> tuple[dict[int, int], list[str]]:
    """Count the pixels of each id.

    Args:
        paths (Sequence[str | Path]): Label images.

    Returns:
        tuple[dict[int, int], list[str]]: Pixels by id, ascending; and the
        files that cannot be decoded.

    Raises:
        UserError: The images hold colours instead of ids.
    """
    count: Counter[int] = Counter()
    broken = []
    for path in paths:
        try:
            ids, pixels = np.unique(read_ids(path), return_counts=True)
        except UserError as error:
            if _channels(path) > 1:
                raise _colour_error(paths) from error
            if 'cannot decode' not in str(error):
                raise
            broken.append(str(path))
        else:
            count.update(dict(zip(ids.tolist(), pixels.tolist())))
    return dict(sorted(count.items())), broken


def find_palette(
    path: str | Path, number: int
) -> list[tuple[int, ...]] | None:
    """Read the colours of the first ids of a palette image.

    Args:
        path (str | Path): Of a label image.
        number (int): Of classes.

    Returns:
        list[tuple[int, ...]] | None: RGB of each class; None if the
        image has no palette, or one in which classes look alike.
    """
    with Image.open(path) as image:
        colours = image.getpalette('RGB') if image.mode == 'P' else None
    rgb = np.reshape(colours or [], (-1, 3))[:number].tolist()
    triples = [tuple(colour) for colour in rgb]
    return triples if len({*triples}) == number else None


def write_labels(
    paths: Mapping[str, Path], folder: Path, ids: Sequence[int]
) -> None:
    """Write copies of label images in which the ids count from 0.

    Args:
        paths (Mapping[str, Path]): Label images, by the path of the copy
            below the folder: PNG.
        folder (Path): Where to.
        ids (Sequence[int]): Ids of the classes 0, 1, ... in the copies; all
            others become 255, which is ignored.

    Raises:
        UserError: A label image cannot be decoded.
    """
    for name, path in paths.items():
        old = read_ids(path)
        new = np.full(old.shape, 255, np.uint8)
        for number, value in enumerate(ids):
            new[old == value] = number
        with whole(folder / name) as part:
            Image.fromarray(new).save(part)


def _channels(path: str | Path) -> int:
    try:
        with Image.open(path) as image:
            return len(image.getbands())
    except (OSError, ValueError, SyntaxError):
        return 0


def _colour_error(paths: Sequence[str | Path]) -> UserError:
    """Say which colours stand where ids should."""
    colours: Counter[tuple[int, ...]] = Counter()
    with_colours = [path for path in paths if _channels(path) > 1]
    for path in with_colours[:50]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert('RGB')).reshape(-1, 3)
        found, number = np.unique(pixels, axis=0, return_counts=True)
        colours.update(dict(zip(map(tuple, found.tolist()), number.tolist())))
    common = ', '.join(str(c) for c, _ in colours.most_common(MOST_COLOURS))
    rest = len(colours) - MOST_COLOURS
    return UserError(
        f'the masks hold colours (RGB), not ids of classes: '
        f'{with_colours[0]} and {len(with_colours) - 1} more of {len(paths)}, '
        f'with {len(colours)} colours, the most common {common}'
        f'{f" and {rest} more" if rest > 0 else ""}; write each colour as its '
        'id, from 0, into grey PNG files'
    )
