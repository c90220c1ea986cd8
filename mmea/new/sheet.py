"""Images of a data set with their labels, on one sheet."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import mmcv
import numpy as np

from mmea.engine.hooks import DetPictureHook, SegPictureHook
from mmea.errors import UserError
from mmea.files import whole

from .summary import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_sheet']

COLUMNS = 3
SIDE = 512  # pixels of the longer side of a picture


def draw_sheet(
    datasets: Sequence[tuple[str, Any]], path: str | Path, number: int = 12
) -> None:
    """Draw images from all over each data set, beside them their labels.

    Args:
        datasets (Sequence[tuple[str, Any]]): Names and built data sets, whose
            pipelines load and pack, as :func:`mmea.new.look_at` gives them.
        path (str | Path): Of the picture, whose suffix is its kind.
        number (int): Images of each. Default: 12.

    Raises:
        UserError: The picture cannot be written.
    """
    from matplotlib.figure import Figure

    chosen = [spread(len(dataset), number) for _, dataset in datasets]
    rows = [-(-len(indices) // COLUMNS) or 1 for indices in chosen]
    figure = Figure(
        (4.2 * COLUMNS, sum(1.9 * n + 0.6 for n in rows)), layout='constrained'
    )
    parts = figure.subfigures(
        len(datasets), squeeze=False, height_ratios=rows
    ).ravel()
    for part, (name, dataset), indices in zip(parts, datasets, chosen):
        part.suptitle(f'{name}: {len(indices)} of {len(dataset)} images')
        _draw(part, dataset, indices)
    try:
        with whole(path) as file:
            figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(
            f'cannot write the picture {path}: {error}; choose another --out'
        ) from error


def _draw(figure: 'Figure', dataset: Any, indices: list[int]) -> None:
    meta = dataset.metainfo
    axes = figure.subplots(
        -(-len(indices) // COLUMNS) or 1, COLUMNS, squeeze=False
    ).ravel()
    for ax in axes:
        ax.set_axis_off()
    seg = SegPictureHook(ignore_index=getattr(dataset, 'ignore_index', 255))
    for ax, i in zip(axes, indices):
        sample = dataset[i]['data_samples']
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        title = Path(sample.img_path).name
        pictures = [image]
        if 'gt_sem_seg' in sample:
            pictures.append(seg.draw(image, sample, meta)['ground truth'])
        elif 'gt_instances' in sample:
            with warnings.catch_warnings():
                # Of boxes that reach beyond the image.
                warnings.filterwarnings('ignore', message='.*out of bounds')
                drawn = DetPictureHook().draw(image, sample, meta)
            pictures = [drawn['ground truth']]  # with the image below
        elif 'gt_label' in sample:
            classes = meta.get('classes')
            names = [
                str(classes[j] if classes else j)
                for j in sample.gt_label.tolist()
            ]
            title = f'{title}: {", ".join(names)}'
        ax.imshow(_beside(pictures), interpolation='nearest')
        ax.set_title(title, fontsize=7)
    handles = seg.legend(meta) if seg.seen else []
    if handles:
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=6,
            frameon=False,
            fontsize=8,
        )


def _beside(pictures: list[np.ndarray]) -> np.ndarray:
    """Put pictures of one view beside each other, at one size."""
    height, width = pictures[0].shape[:2]
    factor = SIDE / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    resized = [
        cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
        if picture.shape[:2] < size[::-1]
        else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    return np.hstack(resized)
