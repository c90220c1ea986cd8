"""Pictures of predictions, by the visualizers of the stack."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.visualization import Visualizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_class', 'draw_figure', 'draw_instances', 'draw_labels',
           'to_picture']  # fmt: skip


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
    from matplotlib.patches import Patch

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
    side = max(image.shape[:2])
    drawer.ax_save.legend(
        handles=[
            Patch(color=_hex(colour), label=classes[i])
            for i, colour in zip(found, colours)
        ],
        loc='lower right',
        fontsize=max(side / 60, 6) * 72 / drawer.fig_save.dpi,
    )
    return drawer.get_image()


def _hex(colour: tuple[int, ...]) -> str:
    return '#' + ''.join(f'{c:02x}' for c in colour)


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    meta: dict,
    *,
    opacity: float = 0.6,
    score_thr: float = 0.0,
) -> np.ndarray:
    """Draw boxes, and masks where there are any, as mmdet does.

    Args:
        image (np.ndarray): uint8 (H, W, 3), RGB.
        instances (InstanceData): With ``scores`` if they are predicted.
        meta (dict): Of the data set.
        opacity (float): Of the masks. Default: 0.6.
        score_thr (float): Those below are left out. Default: 0.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    # mmdet is there when its samples are.
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(line_width=2, alpha=opacity)
    visualizer.dataset_meta = meta
    predicted = 'scores' in instances
    sample = DetDataSample()
    name = 'pred_instances' if predicted else 'gt_instances'
    sample.set_field(instances, name, dtype=InstanceData)
    visualizer.add_datasample(
        '',
        image,
        sample,
        draw_gt=not predicted,
        draw_pred=predicted,
        pred_score_thr=score_thr,
    )
    return visualizer.get_image()


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
