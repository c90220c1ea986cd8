"""A config for a folder of images and label images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
from rich.progress import track

from mmea.datasets.image_head import read_head
from mmea.engine.data_checks.files import shorten
from mmea.errors import UserError

from .copies import IGNORED, is_binary, plan_copies, relabelled
from .labels import count_ids, find_palette
from .layout import OWN_LABELS, Layout, Part, find_layout
from .palette import make_palette
from .project import Project, split_at_random
from .summary import Summary, median_size, spread
from .template import write_segmentation

__all__ = ['new_segmentation']

#: Label images that are read of each split.
READ = 200
LOSSY = '.jpg', '.jpeg'


def new_segmentation(
    root: str,
    out: Path,
    *,
    images: str | None = None,
    masks: str | None = None,
    mask_suffix: str | None = None,
    classes: Sequence[str] | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    max_iters: int = 400,
    relabel: bool = False,
    force: bool = False,
) -> Project:
    """Look at images and label images, and make a config for them.

    Args:
        root (str): The folder of both.
        out (Path): Where the config will be; lists of images go beside it.
        images, masks, mask_suffix: As for
            :func:`mmea.new.layout.find_layout`.
        classes (Sequence[str] | None): Names of the ids 0, 1, .... Default:
            None, 'class 0' and so on up to the largest id found.
        val_share (float): Share of the images for validation, where the data
            have no split. Default: 0.2.
        seed (int): Of the split. Default: 0.
        max_iters (int): Length of the training. Default: 400.
        relabel (bool): Write copies of the label images whose ids count from
            0, into ``label_ids`` below root, and use those. Default: False.
        force (bool): Replace copies that are there. Default: False.

    Returns:
        Project: The texts of config and lists, and the copies of label
        images to be; nothing is written.

    Raises:
        UserError: No pairs are found, or the label images cannot be learned
            from: they are JPEG or hold colours, 0 and 255, or ids outside
            the classes.
    """
    layout = find_layout(root, images, masks, mask_suffix)
    if layout.seg_map_suffix.lower().endswith(LOSSY):
        raise UserError(
            f'the masks of {root} are JPEG ({layout.seg_map_suffix}), which '
            'changes the ids of pixels; save masks as PNG, from their source'
        )
    project = Project(warnings=layout.warnings)
    sizes = _drop_misfits(layout, project.warnings)
    parts = _split(layout, val_share, seed)
    layout = layout._replace(parts=parts)
    new_ids = plan_copies(layout, force, project) if relabel else None
    counts = {}
    for split, part in parts.items():
        chosen = [part.names[i] for i in spread(len(part.names), READ)]
        paths = [layout.label(part, name) for name in chosen]
        ids, broken = count_ids(paths)
        if broken:
            project.warnings.append(
                f'{len(broken)} masks cannot be decoded and are left out: '
                f'{shorten(broken)}'
            )
            bad = {n for n, p in zip(chosen, paths) if str(p) in broken}
            kept = [name for name in part.names if name not in bad]
            parts[split] = part._replace(names=kept)
        if new_ids:
            renumbered: Counter[int] = Counter()
            for old, pixels in ids.items():
                renumbered[new_ids.get(old, IGNORED)] += pixels
            ids = dict(renumbered)
        counts[split] = ids, len(paths) - len(broken)
    found = sorted(
        {i for ids, _ in counts.values() for i in ids}.union(
            (new_ids or {}).values()  # of all masks, not of those read here
        )
    )
    names = _name_classes(found, classes, layout, relabel)
    for split, part in parts.items():
        ids, read = counts[split]
        project.summaries.append(
            Summary(
                split,
                len(part.names),
                [sizes[part.images, name] for name in part.names],
                {name: ids.get(i, 0) for i, name in enumerate(names)},
                'pixels',
                read,
            )
        )
    unused = [
        name
        for name in names
        if not any(s.counts[name] for s in project.summaries)
    ]
    if unused:
        project.warnings.append(
            f'no pixel of {len(unused)} of the {len(names)} classes in the '
            f'masks that were read: {shorten(unused)} (ids found: '
            f'{shorten(found, 20)}); --write-labels numbers the others anew'
        )
    total: Counter[int] = Counter()
    for ids, _ in counts.values():
        total.update(ids)
    if total[IGNORED]:
        project.warnings.append(
            f'{total[IGNORED] / total.total():.1%} of the pixels in the '
            f'masks that were read are {IGNORED}, which means ignored: they '
            f'are not learnt; if {IGNORED} is a class, write it as another id'
        )
    lists = {
        split: out.with_name(f'{out.stem}_{split}.txt') for split in parts
    }
    for split, path in lists.items():
        project.files[path] = '\n'.join(parts[split].names)
    first = parts['train']
    palette = None
    if relabel:
        layout = relabelled(layout)
    else:
        path = layout.label(first, first.names[0])
        palette = find_palette(path, len(names))
    project.files[out] = write_segmentation(
        layout,
        {split: path.name for split, path in lists.items()},
        names,
        palette or make_palette(len(names)),
        median_size(project.summaries[0].sizes),
        max_iters,
    )
    return project


def _drop_misfits(
    layout: Layout, warnings: list[str]
) -> dict[tuple[str, str], tuple[int, int]]:
    """Leave out broken files and unlike pairs; sizes by folder and name."""
    sizes, broken, unlike = {}, [], []
    total = sum(len(part.names) for part in layout.parts.values())
    pairs = (
        (part, name) for part in layout.parts.values() for name in part.names
    )
    for part, name in track(
        pairs, 'Reading', total=total, transient=True, disable=total < READ
    ):
        image = layout.root / part.images / f'{name}{layout.img_suffix}'
        label = layout.label(part, name)
        head, label_head = read_head(str(image)), read_head(str(label))
        bad = [
            str(path)
            for path, found in ((image, head), (label, label_head))
            if not found and not cv2.haveImageReader(str(path))
        ]
        if bad or head is None:
            broken += bad or [str(image)]
        elif label_head and label_head.size not in (
            head.size,
            head.upright_size,
        ):
            unlike.append(f'{image} {head.size}, {label} {label_head.size}')
        else:
            size = label_head.size if label_head else head.size
            sizes[part.images, name] = size
    for split, part in layout.parts.items():
        kept = [n for n in part.names if (part.images, n) in sizes]
        layout.parts[split] = part._replace(names=kept)
    if broken:
        warnings.append(
            f'{len(broken)} files cannot be decoded and are left out: '
            f'{shorten(broken)}'
        )
    if unlike:
        warnings.append(
            f'{len(unlike)} masks have another size (H, W) than their images '
            f'and are left out: {"; ".join(unlike[:3])}'
        )
    if not sizes:
        raise UserError(
            f'none of the {total} pairs of image and mask in {layout.root} '
            f'can be used: {"; ".join(warnings)}'
        )
    return sizes


def _split(layout: Layout, share: float, seed: int) -> dict[str, Part]:
    parts = {key: part for key, part in layout.parts.items() if part.names}
    key = 'all' if 'all' in parts else 'train'
    if key not in parts:
        raise UserError(
            f'{layout.root} has the splits {shorten(list(parts))} and none '
            'for training; name a folder train'
        )
    if 'val' in parts:
        return parts
    whole = parts.pop(key)
    train, val = split_at_random(whole.names, share, seed)
    two = {
        'train': whole._replace(names=train),
        'val': whole._replace(names=val),
    }
    return {**two, **parts}


def _name_classes(
    found: list[int],
    classes: Sequence[str] | None,
    layout: Layout,
    relabel: bool,
) -> tuple[str, ...]:
    """Name all ids from 0 on, or raise where they are none."""
    ids = [i for i in found if i != IGNORED]
    way_out = (
        '--write-labels writes copies that count from 0 to '
        f'{layout.root / OWN_LABELS}'
    )
    if is_binary(found):
        raise UserError(
            f'the masks of {layout.root} hold the ids {shorten(found)} only, '
            f'and {IGNORED} means ignored: write 1 for {IGNORED}; {way_out}'
        )
    if not ids or ids == [0] and not classes:
        raise UserError(
            f'the masks of {layout.root} hold the ids {shorten(found)} only: '
            'there is nothing to tell apart'
        )
    outside = [i for i in ids if i >= len(classes or ())]
    if classes and outside:
        raise UserError(
            f'the masks of {layout.root} hold the ids {shorten(outside)}'
            f'{", as --write-labels numbers them" if relabel else ""}, '
            f'outside the {len(classes)} of --classes (0..{len(classes) - 1}, '
            f'{IGNORED} = ignored); name all'
            f'{"" if relabel else f", or number them anew: {way_out}"}'
        )
    if ids[-1] >= IGNORED:
        raise UserError(
            f'the masks of {layout.root} hold ids up to {ids[-1]}, and '
            f'{IGNORED} means ignored: {way_out}, or docs/data.md tells '
            'how to have more than 255 classes'
        )
    if classes and len({*classes}) < len(classes):
        raise UserError(f'--classes has a name twice: {" ".join(classes)}')
    return tuple(classes or (f'class {i}' for i in range(ids[-1] + 1)))
