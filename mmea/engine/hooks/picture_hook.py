from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmea.files import whole
from mmea.layers._checks import check_positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['PictureHook']


class PictureHook(Hook):
    """Draw image, ground truth and prediction side by side.

    After each validation or test the first images are written to
    ``predictions.png`` in the work dir, and the path is logged. A subclass
    says how labels become a picture.

    Args:
        num_images (int): Rows of the picture. Default: 4.
    """

    priority = 'VERY_LOW'  # after the table and the logged metrics

    def __init__(self, num_images: int = 4) -> None:
        check_positive(num_images=num_images)
        self.num_images = num_images
        self.samples: list[BaseDataElement] = []

    def draw(
        self, image: np.ndarray, sample: BaseDataElement, meta: dict
    ) -> dict[str, np.ndarray]:
        """Draw what a sample holds of ground truth and prediction.

        Args:
            image (np.ndarray): uint8 (H, W, 3), RGB.
            sample (BaseDataElement): A data sample on the CPU.
            meta (dict): Of the data set.

        Returns:
            dict[str, np.ndarray]: Pictures, uint8 RGB, under the keys
            'ground truth' and 'prediction'; one that the sample has not is
            left out.
        """
        raise NotImplementedError

    def legend(self, meta: dict) -> list:
        """Return handles for a legend of all rows; none by default."""
        return []

    def before_val_epoch(self, runner: Runner) -> None:
        self.samples = []

    before_test_epoch = before_val_epoch

    def _collect(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        free = self.num_images - len(self.samples)
        self.samples += [sample.cpu() for sample in list(outputs)[:free]]

    after_val_iter = _collect
    after_test_iter = _collect

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._draw(runner, runner.val_dataloader.dataset.metainfo)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._draw(runner, runner.test_dataloader.dataset.metainfo)

    @master_only
    def _draw(self, runner: Runner, meta: dict) -> None:
        if not self.samples:
            return
        path = Path(runner.work_dir) / 'predictions.png'
        with whole(path) as part:
            self.make_figure(meta).savefig(part, dpi=120)
        runner.logger.info(f'Image, ground truth and prediction: {path}')

    def make_figure(self, meta: dict) -> 'Figure':
        """Draw a figure of all samples, one in a row."""
        # Kept out of the module: pyplot is slow to import.
        from matplotlib.figure import Figure

        figure = Figure(
            (9, 2.6 * len(self.samples) + 0.8), layout='constrained'
        )
        axes = figure.subplots(len(self.samples), 3, squeeze=False)
        for row, sample in zip(axes, self.samples):
            image = mmcv.imread(sample.img_path, channel_order='rgb')
            pictures = {'image': image, **self.draw(image, sample, meta)}
            for ax, title in zip(row, ('image', 'ground truth', 'prediction')):
                ax.set_axis_off()
                # A test set may have no ground truth.
                if title in pictures:
                    ax.imshow(pictures[title], interpolation='nearest')
                    ax.set_title(title)
        handles = self.legend(meta)
        if handles:
            figure.legend(
                handles=handles,
                loc='outside lower center',
                ncols=6,
                frameon=False,
            )
        return figure
