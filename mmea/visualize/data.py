"""Over the images of a data set: which slots answer to which classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mmea.engine.guarded_loaders import guard_dataset
from mmea.engine.preflight import prepare_data
from mmea.errors import UserError, in_one_line
from mmea.inference import Predictor

from .files import chosen, make_progress, save_page, tell, write_csv
from .slot_classes import SlotClasses, information
from .view import Frame, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_data', 'labels_on_map']

CLASSES = 30  # in a picture, at most


def draw_data(
    predictor: Predictor,
    part: str,
    out: Path,
    *,
    limit: int | None = None,
    layers: Sequence[str] | None = None,
) -> None:
    """Tell which slots of a segmentor answer to which classes.

    Into ``out`` go for each layer ``LAYER.csv``, a line for each slot, and
    ``LAYER.png``; a table of all layers is printed.

    Args:
        predictor (Predictor): The model.
        part (str): 'val' or 'test', whose data loader the config has.
        out (Path): A folder, made if it is missing.
        limit (int | None): Images, the first. Default: None, all.
        layers (Sequence[str] | None): Names of layers. Default: None, all.

    Raises:
        UserError: The data set is missing or has no label images, or the
            model has no such layer, or none with slots.
    """
    dataset = _build(predictor, part)
    number = min(len(dataset), limit or len(dataset))
    counts: dict[str, SlotClasses] = {}
    left_out: dict[str, None] = {}
    with make_progress('Looking') as progress:
        for i in progress.track(range(number), description=''):
            with in_one_line(f'cannot read image {i} of the data set'):
                item = dataset[i]
            labels = item['data_samples'].get('gt_sem_seg')
            if labels is None:
                raise UserError(
                    f'--data {part}: the images of {predictor.cfg.filename} '
                    'have no label images, and slots are compared with '
                    'classes of pixels; name photographs instead'
                )
            frame, found = run(predictor, item, name=f'image {i}')
            for name, call, maps in chosen(predictor, found, layers, left_out):
                if maps.attention is None:
                    left_out[f'{name}: has no slots'] = None
                    continue
                key = f'{name}-{call}' if call > 1 else name
                counts.setdefault(
                    key, SlotClasses(len(predictor.classes))
                ).add(
                    maps,
                    labels_on_map(labels.data[0], frame, maps.slots.shape[2:]),
                )
    tell(left_out)
    if not counts:
        raise UserError('no layer has slots to compare with classes')
    table = Table('layer', 'slots', 'dead', 'tell of the class')
    for name, count in counts.items():
        _write(count, predictor.classes, out / f'{name}.csv')
        title = f'{name}: {number} images'
        save_page(
            draw_lift(count, predictor.classes, title), out / f'{name}.png'
        )
        mutual, entropy = information(count.joint)
        told = f'{mutual:.3f} of {entropy:.3f} bits'
        slots, dead = str(len(count.shares)), str(count.dead().sum())
        table.add_row(name, slots, dead, told)
    Console().print(table)


def _build(predictor: Predictor, part: str) -> Any:
    cfg, loader = predictor.cfg, f'{part}_dataloader'
    if not (cfg.get(loader) or {}).get('dataset'):
        raise UserError(f'--data {part}: {cfg.filename} has no {loader}')
    prepare_data(cfg, loader)
    scope = cfg.default_scope
    with in_one_line(f'cannot build {loader}.dataset of {cfg.filename}'):
        return DATASETS.build(guard_dataset(cfg[loader]['dataset'], scope))


def labels_on_map(labels: Tensor, frame: Frame, size: Sequence[int]) -> Tensor:
    """Take the labels at the centres of a map's pixels.

    Args:
        labels (Tensor): Of the whole photograph, (H, W), at any resolution.
        frame (Frame): Where the photograph lies in the input.
        size (Sequence[int]): (h, w) of the map.

    Returns:
        Tensor: (h, w); -1 where the map has padding.
    """
    places, inside = [], []
    for axis in range(2):
        # The centre of each pixel, in pixels of the input.
        centre = torch.arange(size[axis]) + 0.5
        centre = centre * frame.input_size[axis] / size[axis]
        inside.append(centre < frame.seen[axis])
        place = (centre + frame.offset[axis]) / frame.resized[axis]
        last = labels.shape[axis] - 1
        places.append((place * (last + 1)).long().clamp(max=last))
    rows, columns = places
    found = labels.cpu().long()[rows[:, None], columns]
    valid = inside[0][:, None] & inside[1]
    # A label of -1 is one of no class, and no padding.
    return found.masked_fill(found == -1, 255).masked_fill(~valid, -1)


def _write(count: SlotClasses, classes: Sequence[str], path: Path) -> None:
    present = np.flatnonzero(count.joint.sum(0) > 0)
    lift, dead = count.lift, count.dead()
    rows = []
    for slot, share in enumerate(count.shares):
        own = lift[slot, present]
        best = '' if np.isnan(own).all() else classes[present[own.argmax()]]
        values = [f'{v:.4f}' for v in own]
        rows.append((slot, f'{share:.6f}', int(dead[slot]), best, *values))
    header = 'slot', 'share', 'dead', 'class'
    write_csv(path, [*header, *(classes[c] for c in present)], rows)


def draw_lift(
    count: SlotClasses, classes: Sequence[str], title: str
) -> 'Figure':
    """Draw slots by classes: those that seek each other, and that avoid.

    The most frequent classes; slots in the order of the class that they
    answer to most.
    """
    from matplotlib.figure import Figure

    frequent = count.joint.sum(0)
    shown = np.argsort(-frequent, kind='stable')[:CLASSES]
    shown = shown[frequent[shown] > 0]
    dead = count.dead()
    values = np.log2(np.maximum(np.nan_to_num(count.lift, nan=1), 1e-6))
    values = values[:, shown]
    best = values.argmax(1)
    order = np.lexsort((-values.max(1), best, dead))
    figure = Figure(
        (max(0.22 * len(order) + 2.8, 6.5), 0.26 * len(shown) + 1.9),
        layout='constrained',
    )
    axes = figure.subplots()
    # A class may avoid a slot without limit, but seek it so far only.
    limit = max(values.max(), 0.1)
    image = axes.imshow(
        values[order].T, cmap='RdBu_r', vmin=-limit, vmax=limit, aspect='auto'
    )
    axes.set_yticks(
        range(len(shown)),
        [f'{classes[c]} ({frequent[c]:.1%})' for c in shown],
        fontsize=8,
    )
    axes.set_xticks(range(len(order)), order, rotation=90, fontsize=7)
    for i, slot in enumerate(order):
        if dead[slot]:
            axes.get_xticklabels()[i].set_color('#c8452f')
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.01)
    bar.set_label('log2 p(slot, class) / p(slot) p(class)', fontsize=8)
    bar.ax.tick_params(labelsize=8)
    mutual, entropy = information(count.joint)
    axes.set_title(
        f'{title}, {dead.sum()} of {len(order)} slots dead (red), '
        f'{mutual:.3f} of {entropy:.2f} bits of the class',
        fontsize=9,
    )
    axes.set_xlabel('slot', fontsize=8)
    return figure
