from typing import TYPE_CHECKING

import cv2
import mmcv
import numpy as np
from mmengine.structures import BaseDataElement

from mmea.engine.hooks.picture_hook import PictureHook
from mmea.layers._checks import check_number
from mmea.registry import HOOKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['DisparityPictureHook']


@HOOKS.register_module()
class DisparityPictureHook(PictureHook):
    """Draw left image, truth, prediction and error side by side.

    After each validation or test the first pairs are written to
    ``predictions.png`` in the work dir, and the path is logged. Unknown
    pixels are white.

    Args:
        num_images (int): Rows of the picture. Default: 4.
        max_error (float): What is off by more pixels has the last colour.
            Default: 3.
    """

    def __init__(self, num_images: int = 4, max_error: float = 3.0) -> None:
        super().__init__(num_images)
        check_number(0, max_error=max_error)
        self.max_error = max_error

    def make_figure(self, meta: dict) -> 'Figure':
        from matplotlib.figure import Figure

        rows = [_planes(sample) for sample in self.samples]
        height, width = rows[0]['prediction'].shape
        side = 2.65 * height / width + 0.25
        figure = Figure((11, side * len(rows) + 0.7), layout='constrained')
        grid = figure.add_gridspec(
            len(rows) + 1, 4, height_ratios=[side] * len(rows) + [0.1]
        )
        top = max(np.nanmax(p) for r in rows for p in _disparities(r))
        error = dict(vmin=0, vmax=self.max_error, cmap='inferno')
        depth = dict(vmin=0, vmax=top, cmap='turbo')
        shown = {}
        for i, planes in enumerate(rows):
            for j, (title, plane) in enumerate(planes.items()):
                ax = figure.add_subplot(grid[i, j])
                ax.set_axis_off()
                colours = error if title == 'error' else depth
                shown[title] = ax.imshow(
                    plane, interpolation='nearest', **colours
                )
                if title == 'error':
                    title = f'error, mean {np.nanmean(plane):.2f}'
                ax.set_title(title, fontsize=10)
        for title, columns in (
            ('prediction', grid[-1, 1:3]),
            ('error', grid[-1, 3]),
        ):
            if title in shown:
                figure.colorbar(
                    shown[title],
                    cax=figure.add_subplot(columns),
                    orientation='horizontal',
                    label='pixels',
                    extend='max' if title == 'error' else 'neither',
                )
        return figure


def _disparities(planes: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [planes[name] for name in ('truth', 'prediction') if name in planes]


def _planes(sample: BaseDataElement) -> dict[str, np.ndarray]:
    """Make what stands in a row, by its title."""
    found = sample.pred_disparity.numpy()
    left = mmcv.imread(sample.img_path, channel_order='rgb')
    # A data set may have scaled it.
    left = cv2.resize(left, found.shape[::-1], interpolation=cv2.INTER_AREA)
    if 'gt_disparity' not in sample:
        return dict(left=left, prediction=found)
    truth = sample.gt_disparity.numpy()
    error = np.abs(found - truth)
    return dict(left=left, truth=truth, prediction=found, error=error)
