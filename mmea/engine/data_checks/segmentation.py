"""Images and label images, as the data sets of mmseg list them.

Of a suffix that no file has, mmseg says "need at least one array to
concatenate", once the training has begun.
"""

import os
from collections import Counter
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmea.errors import UserError, in_one_line

from .files import find_type
from .images import Sample

__all__ = ['HEADS', 'check', 'count_classes', 'find_class']

#: None: the hook that sees the labels compares them with the heads.
HEADS = r'(?!)'


def find_class(cfg: Config, dataset: ConfigDict) -> type | None:
    """Find the data set's class, if it is one of mmseg's."""
    return find_type(cfg, dataset, 'mmseg', 'BaseSegDataset')


def count_classes(dataset: ConfigDict, classes: tuple[str, ...]) -> None:
    """Leave the number of classes to the labels."""


def check(
    cls: type,
    dataset: ConfigDict,
    key: str,
    classes: tuple[str, ...],
    labelled: bool,
) -> list[Sample]:
    """List the images of a data set, each with its label image.

    Args:
        cls (type): That of :func:`find_class`.
        dataset (ConfigDict): Its config.
        key (str): Its place in the config.
        classes (tuple[str, ...]): Names of the classes; not used.
        labelled (bool): Whether there must be label images.

    Returns:
        list[Sample]: Those that will be read.

    Raises:
        UserError: The data set cannot be built, has no images, or no label
            image that it asks for is there.
    """
    args = dict(dataset, pipeline=[], lazy_init=True, indices=None)
    args.pop('type')
    with in_one_line(f'cannot list the data set {key}'):
        built = cls(**args)
        listed = built.load_data_list()
    if not listed:
        folder = built.data_prefix.get('img_path')
        raise UserError(
            f'no image of {key} in {folder}: img_suffix is '
            f'{built.img_suffix!r}, {_suffixes(folder)}; set {key}.img_suffix '
            f'or {key}.data_prefix.img_path'
        )
    indices = dataset.get('indices')
    if isinstance(indices, int):
        listed = listed[:indices]
    elif indices:
        listed = [listed[i] for i in indices]
    samples = [
        Sample(
            entry['img_path'], entry.get('seg_map_path') if labelled else None
        )
        for entry in listed
    ]
    labels = [label for _, label, _ in samples if label]
    if labels and not any(map(os.path.exists, labels)):
        folder = built.data_prefix.get('seg_map_path')
        raise UserError(
            f'no label image of {key} is there ({labels[0]!r}, ...): '
            f'seg_map_suffix is {built.seg_map_suffix!r}, '
            f'{_suffixes(folder)}; set {key}.seg_map_suffix or '
            f'{key}.data_prefix.seg_map_path'
        )
    return samples


def _suffixes(folder: str | None) -> str:
    """Say of what kinds the files in a folder are."""
    count = Counter(
        path.suffix for path in Path(folder or '').rglob('*') if path.is_file()
    )
    kinds = [f'{n} of {kind or "none"!r}' for kind, n in count.most_common(3)]
    files = ', '.join(kinds) or 'none'
    return f'and the files there are {files}'
