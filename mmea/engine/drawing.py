"""Pictures of predictions, by the visualizers of the stack."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.visualization import Visualizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_class', 'draw_figure', 'draw_instances', 'draw_labels',
           'to_picture']  # fmt: skip

Colour = tuple[int, ...]


def to_picture(image: np.ndarray) -> np.ndarray:
    """Make of an image as it is stored one that can be looked at.

    Args:
        image (np.ndarray): (H, W) or (H, W, C) of any dtype; three channels
            are BGR, of more the first three are taken.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    image = image.reshape(*image.shape[:2], -1)
    channels = image.shape[2]
    image = image[..., [2, 1, 0] if channels == 3 else range(min(3, channels))]
    if image.shape[2] < 3:
        image = image[..., [0, 0, 0]]
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (1, 99))
        image = (image - low) / max(high - low, 1e-9) * 255
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))


def draw_figure(figure: 'Figure', dpi: int) -> np.ndarray:
    """Draw a figure of matplotlib to an array.

    Args:
        figure (Figure): Such as :func:`mmea.visualize.draw_page` gives.
        dpi (int): Pixels of an inch.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def draw_labels(
    image: np.ndarray,
    labels: np.ndarray,
    meta: dict,
    *,
    opacity: float = 0.5,
    only: Iterable[int] | None = None,
) -> np.ndarray:
    """Lay classes over a photograph, with a legend of those that occur.

    Args:
        image (np.ndarray): uint8 (H, W, 3), RGB.
        labels (np.ndarray): Ids of classes (H, W).
        meta (dict): ``classes`` and ``palette`` of the data set.
        opacity (float): From 0, the photograph, to 1, the classes alone.
            Default: 0.5.
        only (Iterable[int] | None): Ids to draw. Default: None, all but a
            class called background.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    classes, palette = meta['classes'], np.asarray(meta['palette'])
    if only is None:
        only = (i for i, c in enumerate(classes) if c.lower() != 'background')
    found = [i for i in only if (labels == i).any()]
    drawer = Visualizer(image=image)
    if not found:
        return image
    colours = [tuple(int(c) for c in palette[i]) for i in found]
    drawer.draw_binary_masks(
        np.stack([labels == i for i in found]), colours, float(opacity)
    )
    _add_legend(drawer, {classes[i]: c for i, c in zip(found, colours)})
    return drawer.get_image()


def _add_legend(drawer: Visualizer, colours: dict[str, Colour]) -> None:
    from matplotlib.patches import Patch

    drawer.ax_save.legend(
        handles=[
            Patch(color=_hex(colour), label=name)
            for name, colour in colours.items()
        ],
        loc='lower right',
        fontsize=_font_size(drawer),
    )


def _font_size(drawer: Visualizer) -> float:
    """In points, of letters that are legible and small beside the image."""
    side = max(drawer.width, drawer.height)
    return max(side / 60, 8) * 72 / drawer.fig_save.dpi


def _hex(colour: Colour) -> str:
    return '#' + ''.join(f'{c:02x}' for c in colour)


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    meta: dict,
    *,
    opacity: float = 0.6,
    score_thr: float = 0.0,
) -> np.ndarray:
    """Draw boxes, and masks where there are any, with a legend of classes.

    A score stands in the corner of its box, in per cent; the legend counts.

    Args:
        image (np.ndarray): uint8 (H, W, 3), RGB.
        instances (InstanceData): With ``scores`` if they are predicted.
        meta (dict): Of the data set.
        opacity (float): Of the masks. Default: 0.6.
        score_thr (float): Those below are left out. Default: 0.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    if 'scores' in instances:
        instances = instances[instances.scores >= score_thr]
    if not len(instances):
        return image
    labels = instances.labels.tolist()
    palette = _colours(meta, max(labels) + 1)
    colours = [palette[i] for i in labels]
    drawer = Visualizer(image=image)
    boxes = _boxes(instances)
    boxes[:, 0::2].clamp_(0, image.shape[1] - 1)
    boxes[:, 1::2].clamp_(0, image.shape[0] - 1)
    if 'masks' in instances:
        masks = _masks(instances.masks)
        drawer.draw_binary_masks(masks, colours, float(opacity))
        for mask, colour in zip(masks, colours):
            drawer.ax_save.contour(mask, [0.5], colors=[_hex(colour)],
                                   linewidths=1)  # fmt: skip
    drawer.draw_bboxes(
        boxes, colours, line_widths=max(max(image.shape) / 400, 1)
    )
    if 'scores' in instances:
        _write_scores(drawer, boxes, instances.scores.tolist(), colours)
    counts = Counter(labels)
    _add_legend(
        drawer,
        {
            f'{_name(meta, i)}  {n}': palette[i]
            for i, n in counts.most_common()
        },
    )
    return drawer.get_image()


def _write_scores(
    drawer: Visualizer,
    boxes: torch.Tensor,
    scores: list[float],
    colours: list[Colour],
) -> None:
    """Write each score into the corner of its box, in per cent."""
    size = _font_size(drawer)
    for (left, top, *_), score, colour in zip(boxes.tolist(), scores, colours):
        drawer.ax_save.text(
            left,
            top,
            f'{100 * score:.0f}',
            size=size,
            verticalalignment='top',
            color='k' if np.dot(colour, (0.299, 0.587, 0.114)) > 128 else 'w',
            bbox=dict(facecolor=_hex(colour), edgecolor='none', pad=0.8),
            clip_on=True,
        )


def _boxes(instances: InstanceData) -> torch.Tensor:
    """Boxes as (N, 4), around the masks where there are none."""
    boxes = torch.zeros(len(instances), 4)
    if 'bboxes' in instances:
        found = instances.bboxes
        boxes = getattr(found, 'tensor', found).detach().cpu().float().clone()
    if 'masks' in instances and not boxes.any():
        for box, mask in zip(boxes, _masks(instances.masks)):
            y, x = np.nonzero(mask)
            if len(x):
                box[:] = torch.tensor(
                    [x.min(), y.min(), x.max() + 1, y.max() + 1]
                )
    return boxes


def _masks(masks: Any) -> np.ndarray:
    """Masks of any kind of mmdet as bool (N, H, W)."""
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks
    return np.asarray(torch.as_tensor(masks).cpu(), bool)


def _colours(meta: dict, number: int) -> list[Colour]:
    """Return the palette of a data set, or one of mmdet's if it has none."""
    palette = meta.get('palette')
    if palette is None or isinstance(palette, str):
        from mmdet.visualization import get_palette

        palette = get_palette(palette or 'random', number)
    return [tuple(int(c) for c in colour) for colour in palette]


def _name(meta: dict, label: int) -> str:
    classes = meta.get('classes')
    return classes[label] if classes else f'class {label}'


def draw_class(
    image: np.ndarray, sample: BaseDataElement, classes: Sequence[str]
) -> np.ndarray:
    """Write the predicted class and its score into the corner of an image.

    Args:
        image (np.ndarray): uint8 (H, W, 3), RGB.
        sample (BaseDataElement): mmpretrain's, with ``pred_label`` and
            ``pred_score``.
        classes (Sequence[str]): Names of the classes.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    label = int(sample.pred_label)
    name = classes[label] if classes else str(label)
    drawer = Visualizer(image=image)
    drawer.draw_texts(
        f'{name} {sample.pred_score[label].item():.0%}',
        np.array([4, 4]),
        colors='w',
        font_sizes=max(min(image.shape[:2]) // 20, 8),
        bboxes=dict(facecolor='black', alpha=0.6, edgecolor='none'),
    )
    return drawer.get_image()
