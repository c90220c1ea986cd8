"""What a picture shows of a cloud: truth beside prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.structures import BaseDataElement

from .metrics import part_ious

__all__ = ['View', 'view_of']

#: Of the parts of a class, at most six in ShapeNet-part.
COLOURS = ('#2f6fde', '#e8950c', '#15a06e', '#d1495b', '#8b5cf6', '#17a8c4')
OTHER = '#8a919c'
RIGHT, WRONG = '#15a06e', '#d1495b'


@dataclass
class View:
    """One cloud of a picture.

    Attributes:
        title (str): What it is.
        verdict (str): How well it was told.
        points (np.ndarray): (N, 3), z upwards, in the unit ball.
        panels (dict[str, np.ndarray]): By title, places in ``legend`` (N,).
        legend (list[tuple[str, str]]): Names and colours.
    """

    title: str
    verdict: str
    points: np.ndarray
    panels: dict[str, np.ndarray]
    legend: list[tuple[str, str]]


def view_of(
    cloud: np.ndarray, sample: BaseDataElement, meta: dict, up: str = 'z'
) -> View:
    """Make a view of a cloud and what a model says of it.

    Args:
        cloud (np.ndarray): (N, C), coordinates first.
        sample (BaseDataElement): On the CPU, with ``pred_parts`` (N,) or
            ``pred_label`` and ``pred_score``, and maybe the truth.
        meta (dict): Of the data set: ``classes``, of parts ``parts`` and
            maybe ``part_names``.
        up (str): The coordinate that points upwards. Default: 'z'.

    Returns:
        View: With the panels 'truth', where there is one, and 'prediction'.
    """
    points = np.asarray(cloud[:, :3], float)
    points = points - (points.max(0) + points.min(0)) / 2
    points /= max(np.linalg.norm(points, axis=1).max(), 1e-12)
    if up == 'y':
        points = points[:, [0, 2, 1]] * [1, -1, 1]
    if 'pred_parts' in sample:
        return _of_parts(points, sample, meta)
    return _of_class(points, sample, meta.get('classes') or ())


def _of_class(
    points: np.ndarray, sample: BaseDataElement, classes: Sequence[str]
) -> View:
    label = int(sample.pred_label)
    said = f'{_name(classes, label)} {float(sample.pred_score[label]):.0%}'
    one = np.zeros(len(points), int)
    if 'gt_label' not in sample:
        return View(said, '', points, dict(prediction=one), [('', COLOURS[0])])
    truth = _name(classes, int(sample.gt_label))
    right = int(sample.gt_label) == label
    return View(
        truth,
        said if right else f'taken for {said}',
        points,
        dict(prediction=one),
        [('right', RIGHT) if right else ('wrong', WRONG)],
    )


def _of_parts(points: np.ndarray, sample: BaseDataElement, meta: dict) -> View:
    label = int(sample.gt_label)
    kind = _name(meta.get('classes') or (), label)
    own = meta['parts'][label]
    names = (meta.get('part_names') or {}).get(kind, ())
    legend = [
        (names[i] if i < len(names) else f'part {i + 1}', COLOURS[i % 6])
        for i in range(len(own))
    ]
    found = sample.pred_parts.numpy()
    labels, verdict = dict(prediction=found), ''
    if 'gt_parts' in sample:
        truth = sample.gt_parts.numpy()
        labels = dict(truth=truth, prediction=found)
        verdict = f'IoU {np.mean(part_ious(truth, found, own)):.0%}'
    panels = {
        title: np.where(np.isin(parts, own), parts - own[0], len(own))
        for title, parts in labels.items()
    }
    if any((places == len(own)).any() for places in panels.values()):
        legend.append(('of another class', OTHER))
    # A name for what is to be seen alone.
    seen = np.unique(np.concatenate(list(panels.values())))
    panels = {t: np.searchsorted(seen, p) for t, p in panels.items()}
    return View(kind, verdict, points, panels, [legend[i] for i in seen])


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else f'class {label}'
