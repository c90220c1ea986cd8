"""Images and label images that have no counterpart."""

from pathlib import PurePosixPath

from mmea.engine.data_checks.files import shorten

__all__ = ['left_out']


def left_out(
    images: list[str],
    masks: list[str],
    used: list[str],
    ends: tuple[str, str],
) -> list[str]:
    """Tell files of another suffix, and those without a counterpart.

    Args:
        images (list[str]): Paths of all.
        masks (list[str]): The same, of label images.
        used (list[str]): Those of both that are pairs.
        ends (tuple[str, str]): What the names of used images end with, and
            of label images.

    Returns:
        list[str]: Warnings; a file whose counterpart is left out for its
        suffix is in none.
    """
    warnings = []
    suffixes = [PurePosixPath(f'x{end}').suffix for end in ends]
    left = [sorted({*paths} - {*used}) for paths in (images, masks)]
    odd = [
        [path for path in paths if PurePosixPath(path).suffix != suffix]
        for paths, suffix in zip(left, suffixes)
    ]
    odd_names = [
        {_name(path, end) for path in paths} for paths, end in zip(odd, ends)
    ]
    for i, (what, other) in enumerate(
        (('images', 'mask'), ('masks', 'image'))
    ):
        if odd[i]:
            kinds = sorted({PurePosixPath(path).suffix for path in odd[i]})
            warnings.append(
                f'{len(odd[i])} {what} end with {", ".join(kinds)} instead of '
                f'{suffixes[i]} and are left out; a data set has one suffix: '
                'rename those of the same format, convert others: '
                f'{shorten(odd[i], 10)}'
            )
        alone = [
            path
            for path in left[i]
            if PurePosixPath(path).suffix == suffixes[i]
            and _name(path, ends[i]) not in odd_names[1 - i]
        ]
        if alone:
            warnings.append(
                f'{len(alone)} {what} have no {other} and are left out: '
                f'{shorten(alone, 10)}'
            )
    return warnings


def _name(path: str, end: str) -> str:
    """Return what image and label image share: no folder, nothing behind."""
    return PurePosixPath(path).stem.removesuffix(end.rpartition('.')[0])
