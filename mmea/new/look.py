"""What the data sets of a config hold, as a training reads them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmea.datasets.image_head import read_head
from mmea.engine.data_checks import has_labels
from mmea.engine.data_checks.files import data_parts, shorten
from mmea.engine.guarded_loaders import guard_dataset
from mmea.errors import UserError, in_one_line

from .summary import Summary, spread

__all__ = ['look_at', 'summarise']

LOADERS = 'train_dataloader', 'val_dataloader', 'test_dataloader'
#: Heads of images and label images that are read of each data set.
HEADS, LABELS = 1000, 200


def look_at(cfg: Config) -> Iterator[tuple[Any, Summary]]:
    """Build and count the data sets of a config, equal ones once.

    Their pipelines load and pack, and change nothing.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it,
            whose data was checked.

    Yields:
        tuple[Any, Summary]: A data set of mmseg, mmdet or mmpretrain, and
        what is in it.

    Raises:
        UserError: A data set cannot be built, or a label image not be read,
            or it has no pipeline: clouds of points, pairs of views.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    seen: list[dict] = []
    for key in LOADERS:
        if not cfg.get(key):
            continue
        # As build_runner() has it.
        dataset = guard_dataset(
            cfg[key]['dataset'],
            cfg.get('default_scope'),
            labels=has_labels(cfg, key),
        )
        for name, part in data_parts(dataset, f'{key}.dataset'):
            if 'pipeline' not in part:
                raise UserError(
                    f'{name} is of {part.get("type")}, which takes no '
                    'pipeline; mmea check-data looks at the sets of images of '
                    'mmseg, mmdet and mmpretrain, others check their files '
                    'when they are read'
                )
            plain = dict(part, pipeline=_plain(part['pipeline'] or ()))
            if plain in seen:
                continue
            seen.append(plain)
            with in_one_line(f'cannot build the data set {name}'):
                built = DATASETS.build(plain)
            yield built, summarise(built, name)


def summarise(dataset: Any, name: str) -> Summary:
    """Count what a data set holds.

    Args:
        dataset (Any): Built, of mmseg, mmdet or mmpretrain.
        name (str): Its place in the config.

    Returns:
        Summary: The sizes of up to 1,000 images. Boxes and labels of
        images are all counted, pixels in up to 200 label images.

    Raises:
        UserError: A label image cannot be read.
    """
    total = len(dataset)
    classes = tuple(dataset.metainfo.get('classes') or ())
    count: Counter[int] = Counter()
    loader = _label_loader(dataset)
    first = dataset.get_data_info(0) if total else {}
    if loader and 'seg_map_path' in first:
        unit, chosen = 'pixels', spread(total, LABELS)
        for i in chosen:
            labels = loader.transform(dataset.get_data_info(i))['gt_seg_map']
            ids, pixels = np.unique(labels, return_counts=True)
            count.update(dict(zip(ids.tolist(), pixels.tolist())))
    else:
        unit = 'boxes' if 'instances' in first else 'images'
        chosen = list(range(total))
        for i in chosen:
            count.update(_labels(dataset.get_data_info(i)))
    numbers = {c: count[i] for i, c in enumerate(classes)}
    warnings = []
    unused = [c for c, number in numbers.items() if not number]
    if unused and any(count.values()):
        read = (
            f'the {len(chosen)} label images that were read'
            if len(chosen) < total
            else 'the data'
        )
        warnings.append(
            f'{len(unused)} of the {len(classes)} classes do not occur in '
            f'{read}: {shorten(unused)}'
        )
    ignored = getattr(dataset, 'ignore_index', 255)
    outside = sorted(i for i in count if i >= len(classes) and i != ignored)
    if unit == 'pixels' and outside:
        warnings.append(
            f'ids outside the {len(classes)} classes: {shorten(outside)}'
        )
    return Summary(
        name, total, [*_sizes(dataset)], numbers, unit, len(chosen), warnings
    )


def _labels(info: dict) -> list[int]:
    """Of one image, the classes of its boxes or its own."""
    if 'instances' in info:
        return [
            instance['bbox_label']
            for instance in info['instances']
            if not instance.get('ignore_flag')
        ]
    return np.ravel(info.get('gt_label', [])).tolist()


def _sizes(dataset: Any) -> Iterator[tuple[int, int]]:
    for i in spread(len(dataset), HEADS):
        info = dataset.get_data_info(i)
        if 'height' in info and 'width' in info:
            yield info['height'], info['width']
        elif head := read_head(info['img_path']):
            yield head.upright_size


def _plain(pipeline: Any) -> list[dict]:
    """Keep what loads and packs; what is packed tells its file."""
    steps = []
    for step in pipeline:
        name = step.get('type')
        name = str(getattr(name, '__name__', name)).rpartition('.')[2]
        if name.startswith('Load'):
            steps.append(step)
        elif name.startswith('Pack'):
            steps.append(dict(type=step['type'], meta_keys=('img_path',)))
    return steps


def _label_loader(dataset: Any) -> Any:
    """Find the step that reads label images."""
    try:
        from mmseg.datasets.transforms import LoadAnnotations
    except ImportError:
        return None
    for step in dataset.pipeline.transforms:
        if isinstance(step, LoadAnnotations):
            return step
    return None
