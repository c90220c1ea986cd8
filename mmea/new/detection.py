"""A config for boxes, and masks, in a COCO file."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmea.engine.data_checks.files import shorten
from mmea.errors import UserError

from .coco import complete, find_images, read_coco, take
from .project import Project, split_at_random
from .summary import Summary, median_size
from .template import BESIDE, write_detection

__all__ = ['new_detection']


def new_detection(
    ann_file: str,
    out: Path,
    *,
    images: str | None = None,
    val_file: str | None = None,
    classes: Sequence[str] | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    max_iters: int = 400,
) -> Project:
    """Look at a COCO file and its images, and make a config for them.

    Mask R-CNN if every annotation has a segmentation, else RetinaNet.

    Args:
        ann_file (str): Of training; of validation too, without ``val_file``.
        out (Path): Where the config will be; annotation files of the two
            splits go beside it, which lack images that are not there.
        images (str | None): Folder that the file names are in. Default:
            None, looked for beside the file.
        val_file (str | None): COCO file for validation. Default: None, a
            share of the images of ``ann_file``.
        classes (Sequence[str] | None): Categories to learn. Default: all.
        val_share (float): Share of the images for validation. Default: 0.2.
        seed (int): Of the split. Default: 0.
        max_iters (int): Length of the training. Default: 400.

    Returns:
        Project: The texts of the config and the annotation files; nothing is
        written.

    Raises:
        UserError: A file is not in COCO format or has no annotations, or its
            images are not found, or classes are no categories of it.
    """
    project = Project()
    whole = read_coco(ann_file)
    folder = find_images(whole, ann_file, images)
    whole = complete(whole, folder, ann_file, project.warnings)
    names = [category['name'] for category in whole['categories']]
    chosen = _choose(names, classes, ann_file)
    if val_file:
        val = read_coco(val_file)
        val_folder = find_images(val, val_file, images)
        val = complete(val, val_folder, val_file, project.warnings)
        _compare(names, val, ann_file, val_file)
        contents = dict(train=(whole, folder), val=(val, val_folder))
    else:
        by_name = {image['file_name']: image for image in whole['images']}
        train_val = split_at_random([*by_name], val_share, seed)
        contents = {
            split: (take(whole, [by_name[n] for n in part]), folder)
            for split, part in zip(('train', 'val'), train_val)
        }
    files, sides = {}, []
    for split, (content, where) in contents.items():
        path = out.with_name(f'{out.stem}_{split}.json')
        project.files[path] = json.dumps(content)
        files[split] = f'{BESIDE}/{path.name}', where.as_posix()
        project.summaries.append(_summarise(split, content, chosen))
        sides += [
            (a['bbox'][2] * a['bbox'][3]) ** 0.5
            for a in content['annotations']
        ]
    unused = [
        name
        for name in chosen
        if not any(s.counts[name] for s in project.summaries)
    ]
    if unused:
        project.warnings.append(
            f'no annotation has the category {shorten(unused)}; leave it out '
            'by --classes'
        )
    masks = all(
        a.get('segmentation')
        for content, _ in contents.values()
        for a in content['annotations']
    )
    project.files[out] = write_detection(
        files,
        {s.name: s.images for s in project.summaries},
        chosen,
        median_size(project.summaries[0].sizes),
        sorted(sides)[len(sides) // 4],
        masks,
        max_iters,
    )
    return project


def _choose(
    names: list[str], classes: Sequence[str] | None, path: str
) -> list[str]:
    """Take categories in the order of the file, as mmdet numbers them."""
    if len({*names}) < len(names):
        raise UserError(
            f'{path} has two categories of one name: {shorten(names, 20)}; '
            'rename one'
        )
    unknown = [name for name in classes or () if name not in names]
    if unknown:
        raise UserError(
            f'{path} has no category {shorten(unknown)} of --classes; it has '
            f'{shorten(names, 20)}'
        )
    return [name for name in names if not classes or name in classes]


def _compare(names: list[str], val: dict, path: str, val_path: str) -> None:
    others = [category['name'] for category in val['categories']]
    if names != others:
        raise UserError(
            f'{val_path} (--val) has the categories {shorten(others, 20)}, '
            f'{path} {shorten(names, 20)}; both must have the same in one '
            'order'
        )


def _summarise(split: str, content: dict, classes: list[str]) -> Summary:
    names = {c['id']: c['name'] for c in content['categories']}
    count = Counter(
        names.get(a['category_id']) for a in content['annotations']
    )
    return Summary(
        split,
        len(content['images']),
        [(image['height'], image['width']) for image in content['images']],
        {name: count[name] for name in classes},
        'boxes',
        len(content['images']),
    )
