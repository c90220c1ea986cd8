"""Which files of a folder are images, and which their label images."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mmea.engine.data_checks.files import shorten
from mmea.errors import UserError

from .left_out import left_out

__all__ = ['OWN_LABELS', 'SPLITS', 'Layout', 'Part', 'find_layout']

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
#: Where corrected copies go; no data of the user's own.
OWN_LABELS = 'label_ids'
SPLITS = 'train', 'val', 'test'
ROLES = 'images', 'masks'

# Parts of a path that say what a file is.
MASK = re.compile(
    r'mask|label|annot|ann_?dir|^ann$|seg|ground.?truth|^gts?([_\-. ]|$)'
    r'|(^|[_\-. ])gts?$|target',
    re.I,
)
IMAGE = re.compile(r'image|img|photo|picture|^rgb|jpe?g|input', re.I)
SPLIT = re.compile(
    r'(?:^|[_\-. ])(train|val|test)(?:ing|id|idation)?'
    r'(?=\d*(?:$|[_\-. ])|images?$|im(?:g|age)s?|masks?|labels?|annot)',
    re.I,
)
LAST_WORD = re.compile(r'[_\-. ][^_\-. /]+$')


class Part(NamedTuple):
    """The files of one split.

    Attributes:
        images (str): Folder of the images, below the root.
        labels (str): Folder of the label images, below the root.
        names (list[str]): Paths in both folders, without suffixes; sorted.
    """

    images: str
    labels: str
    names: list[str]


class Layout(NamedTuple):
    """How a data set of images and label images lies on the disk.

    Attributes:
        root (Path): The folder that all else is below.
        img_suffix (str): With what, if anything, stands in front of the dot.
        seg_map_suffix (str): The same, of label images.
        parts (dict[str, Part]): By split; 'all' where there is none.
        warnings (list[str]): Files that are left out.
    """

    root: Path
    img_suffix: str
    seg_map_suffix: str
    parts: dict[str, Part]
    warnings: list[str]

    def label(self, part: Part, name: str) -> Path:
        """Return the path of a label image."""
        return self.root / part.labels / f'{name}{self.seg_map_suffix}'


class _File(NamedTuple):
    """A file: its split, its folder as far as that tells, what is below."""

    split: str | None
    folder: str
    name: str


def find_layout(
    root: str | os.PathLike,
    images: str | None = None,
    masks: str | None = None,
    mask_suffix: str | None = None,
) -> Layout:
    """Find images, label images and splits by the names of files.

    Args:
        root (str | os.PathLike): The folder to look through.
        images (str | None): Folder of the images, below root. Default: None,
            those named images, img_dir, ..., or all that hold no masks.
        masks (str | None): The same for label images: masks, labels,
            annotations, ...; or files beside the images, by their suffix.
        mask_suffix (str | None): Of label images, such as ``'_mask.png'``.
            Default: None, the one that most of them have.

    Returns:
        Layout: With the images that have a label image.

    Raises:
        UserError: There are no images, no label images or no pairs, or it is
            not clear which folders or suffixes are meant.
    """
    root = Path(root)
    own = [_below(root, folder) for folder in (images, masks)]
    found, lists = _walk(root, own)
    if not found:
        raise UserError(
            f'{root} holds no images ({", ".join(SUFFIXES)})'
            f'{_hint(root, found)}; give the folder that holds images and '
            'masks'
        )
    pictures, labels = _sort(found, own, mask_suffix)
    if not labels or not pictures:
        suffix = f' that end with --mask-suffix {mask_suffix}'
        raise UserError(
            f'{root} holds {len(found)} image files and no '
            f'{"masks" if pictures else "images beside masks"}'
            f'{suffix if mask_suffix and not labels else ""}'
            f'{_hint(root, found)}; name the folders images and masks, the '
            'files x.jpg and x_mask.png, or give --images and --masks'
        )
    places, masked = _group(pictures, own[0]), _group(labels, own[1])
    img_suffix, seg_map_suffix = _suffixes(places, masked, mask_suffix)
    splits: list[str | None] = [
        split for split in SPLITS if split in places or split in masked
    ]
    parts, used = {}, []
    for split in splits or [None]:
        images_of = _choose(places, split, 'images')
        labels_of = _choose(masked, split, 'masks')
        if not images_of or not labels_of:
            continue
        names = _stems(images_of[1], img_suffix)
        names &= _stems(labels_of[1], seg_map_suffix)
        if names:
            part = Part(images_of[0], labels_of[0], sorted(names))
            parts[split or 'all'] = part
        for name in names:
            used += [
                str(PurePosixPath(images_of[0], name + img_suffix)),
                str(PurePosixPath(labels_of[0], name + seg_map_suffix)),
            ]
    if not parts:
        raise UserError(
            f'no image of {root} has a mask of its name: the images are '
            f'{shorten(pictures, 3)}, the masks {shorten(labels, 3)}; '
            + (
                f'is --mask-suffix {mask_suffix} what masks have behind the '
                'name of the image? Without it, it is looked for'
                if mask_suffix
                else 'name them alike, or give --mask-suffix'
            )
        )
    if 'all' in parts:
        parts = _listed(parts['all'], lists) or parts
    warnings = left_out(pictures, labels, used, (img_suffix, seg_map_suffix))
    return Layout(root, img_suffix, seg_map_suffix, parts, warnings)


def _below(root: Path, folder: str | None) -> str | None:
    """Find a folder that was given, as typed or below the root."""
    if folder is None:
        return None
    for path in (Path(folder), root / folder):
        if path.is_dir() and path.resolve().is_relative_to(root.resolve()):
            return path.resolve().relative_to(root.resolve()).as_posix()
    raise UserError(
        f'there is no folder {folder} below {root}; --images and --masks '
        'name folders of the data'
    )


def _walk(
    root: Path, own: list[str | None]
) -> tuple[list[str], dict[str, list[str]]]:
    """List image files below a folder, and folders of lists of names."""
    if not root.is_dir():
        raise UserError(
            f'there is no folder or file {root}; give a folder of images and '
            'masks, or a COCO file'
        )
    found, lists = [], {}
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith('.'))
        below = Path(folder).relative_to(root)
        if below.parts[:1] == (OWN_LABELS,) and OWN_LABELS not in str(own[1]):
            folders[:] = []
            continue
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith('.'):
                found.append((below / name).as_posix())
        if {'train.txt', 'val.txt'} <= {*files}:
            lists[folder] = [f'{s}.txt' for s in SPLITS if f'{s}.txt' in files]
    return found, lists


def _role(path: str, own: list[str | None]) -> str | None:
    """Say whether a file's folders name it an image or a mask."""
    parent = PurePosixPath(path).parent
    for folder, role in zip(own, ROLES):
        if folder is not None and parent.is_relative_to(folder):
            return role
    for part in reversed(parent.parts):
        if MASK.search(part) and not own[1]:
            return 'masks'
        if IMAGE.search(part) and not own[0]:
            return 'images'
    return None


def _sort(
    found: list[str], own: list[str | None], mask_suffix: str | None
) -> tuple[list[str], list[str]]:
    """Tell images from masks: by their folders, or else by their names."""
    roles = {path: _role(path, own) for path in found}
    masks = [path for path in found if roles[path] == 'masks']
    images = [path for path in found if roles[path] == 'images']
    rest = [path for path in found if roles[path] is None]
    if masks:
        return images or rest, masks
    beside = images or found
    if mask_suffix:
        masks = [path for path in beside if path.endswith(mask_suffix)]
    else:
        masks = [path for path in beside if _named_mask(path)]
    if not masks:  # x.jpg and x.png
        kinds = defaultdict(set)
        for path in beside:
            kinds[os.path.splitext(path)[1].lower() == '.png'].add(path)
        stems = {os.path.splitext(path)[0] for path in kinds[False]}
        masks = [p for p in kinds[True] if os.path.splitext(p)[0] in stems]
    return [path for path in beside if path not in {*masks}], sorted(masks)


def _named_mask(path: str) -> bool:
    word = LAST_WORD.search(os.path.splitext(path)[0])
    return bool(word and MASK.search(word[0][1:]))


def _group(
    paths: list[str], own: str | None
) -> dict[str | None, dict[str, list[str]]]:
    """Sort paths by split and folder: split, folder, names below it."""
    groups: dict = defaultdict(lambda: defaultdict(list))
    for path in paths:
        file = _take_apart(path, own)
        groups[file.split][file.folder].append(file.name)
    return groups


def _take_apart(path: str, own: str | None) -> _File:
    parts = PurePosixPath(path).parts
    split = None
    end = len(PurePosixPath(own).parts) if own else 0
    for i, part in enumerate(parts[:-1]):
        found = SPLIT.search(part)
        if found:
            split = found[1].lower()
        if found or not own and (MASK.search(part) or IMAGE.search(part)):
            end = max(end, i + 1)
    return _File(split, '/'.join(parts[:end]), '/'.join(parts[end:]))


def _choose(
    groups: dict, split: str | None, what: str
) -> tuple[str, list[str]] | None:
    """Take the folder of a split, or the one for all; one there must be."""
    folders = groups.get(split) or groups.get(None)
    if not folders:
        return None
    if len(folders) > 1:
        raise UserError(
            f'there are {len(folders)} folders of {what}'
            f'{f" for {split}" if split else ""}: {shorten(sorted(folders))}; '
            f'choose one by --{what}, or give a folder that holds one of them'
        )
    return next(iter(folders.items()))


def _names(groups: dict) -> list[str]:
    return [
        name
        for folders in groups.values()
        for names in folders.values()
        for name in names
    ]


def _suffixes(
    images: dict, labels: dict, mask_suffix: str | None
) -> tuple[str, str]:
    """Find what the names of images and of masks end with."""
    names, masks = _names(images), _names(labels)
    (kind, _), *_ = Counter(map(_suffix, names)).most_common()
    stems = _stems(names, kind)
    words = {_last_word(stem) for stem in stems}
    ends = [kind]
    # x_sat.jpg and x_mask.png share the x.
    if len(words) == 1 and len(stems) > 1 and '' not in words:
        ends.append(words.pop() + kind)
    for end in ends:
        if mask_suffix:
            if _stems(masks, mask_suffix) & _stems(names, end):
                return end, mask_suffix
            continue
        votes = _votes(_stems(names, end), masks).most_common(2)
        if len(votes) == 2 and votes[0][1] == votes[1][1]:
            raise UserError(
                f'the images have masks of the suffixes {votes[0][0]!r} and '
                f'{votes[1][0]!r}; choose one by --mask-suffix'
            )
        if votes:
            return end, votes[0][0]
    return kind, mask_suffix or _suffix(masks[0])


def _votes(stems: set[str], masks: list[str]) -> Counter:
    """Count what names of masks have behind the name of an image."""
    votes: Counter[str] = Counter()
    for name in masks:
        for end in range(len(name) - 1, 0, -1):
            if name[end] in '._- ' and name[:end] in stems:
                votes[name[end:]] += 1
                break
    return votes


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1]


def _last_word(stem: str) -> str:
    word = LAST_WORD.search(stem)
    return word[0] if word else ''


def _stems(names: Iterable[str], end: str) -> set[str]:
    return {name[: -len(end)] for name in names if name.endswith(end)}


def _listed(part: Part, lists: dict[str, list[str]]) -> dict[str, Part] | None:
    """Split by train.txt and val.txt, if the names in them are ours."""
    for folder, files in lists.items():
        parts = {}
        for file in files:
            text = Path(folder, file).read_text(
                encoding='utf-8', errors='replace'
            )
            names = sorted({*part.names} & {*text.splitlines()})
            if names:
                parts[file[: -len('.txt')]] = part._replace(names=names)
        if {'train', 'val'} <= parts.keys():
            return parts
    return None


def _hint(root: Path, found: list[str]) -> str:
    """Name what should have been given: a COCO file, or another command."""
    boxes = sorted(root.rglob('*.json'))[:1]
    if boxes:
        return f' (for boxes give the COCO file {boxes[0]})'
    folders = {PurePosixPath(path).parent for path in found}
    # Of two suffixes, one may be that of masks.
    kinds = {_suffix(path).lower() for path in found}
    if len(folders) > 1 and PurePosixPath() not in folders and len(kinds) == 1:
        return (
            ' (for a class of each folder, without masks, see '
            'docs/classification.md)'
        )
    return ''
