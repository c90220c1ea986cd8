from pathlib import Path

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmea.registry import HOOKS

__all__ = ['SegPictureHook']

TITLES = {'ground truth': 'gt_sem_seg', 'prediction': 'pred_sem_seg'}


@HOOKS.register_module()
class SegPictureHook(Hook):
    """Draw image, ground truth and prediction side by side.

    After each validation or test the first images are written to
    ``predictions.png`` in the work dir, and the path is logged.

    Args:
        num_images (int): Rows of the picture. Default: 4.
        ignore_index (int): Labels drawn in white. Default: 255.
    """

    priority = 'VERY_LOW'  # after the table and the logged metrics

    def __init__(self, num_images: int = 4, ignore_index: int = 255):
        if num_images < 1:
            raise ValueError(f'num_images must be >= 1, got {num_images=}')
        self.num_images = num_images
        self.ignore_index = ignore_index
        self.samples = []

    def before_val_epoch(self, runner: Runner):
        self.samples = []

    before_test_epoch = before_val_epoch

    def _collect(self, runner, batch_idx, data_batch=None, outputs=None):
        free = self.num_images - len(self.samples)
        self.samples += [sample.cpu() for sample in list(outputs)[:free]]

    after_val_iter = _collect
    after_test_iter = _collect

    def after_val_epoch(self, runner: Runner, metrics=None):
        self._draw(runner, runner.val_dataloader.dataset.metainfo)

    def after_test_epoch(self, runner: Runner, metrics=None):
        self._draw(runner, runner.test_dataloader.dataset.metainfo)

    @master_only
    def _draw(self, runner: Runner, meta: dict):
        if not self.samples:
            return
        # Kept out of the module: pyplot is slow to import.
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        palette = np.full((256, 3), 255, np.uint8)
        palette[: len(meta['palette'])] = meta['palette']
        palette[self.ignore_index] = 255
        figure = Figure(
            (9, 2.6 * len(self.samples) + 0.8), layout='constrained'
        )
        axes = figure.subplots(len(self.samples), 3, squeeze=False)
        seen = set()
        for row, sample in zip(axes, self.samples):
            pictures = {
                'image': mmcv.imread(sample.img_path, channel_order='rgb')
            }
            for title, key in TITLES.items():
                if key in sample:  # a test set may have no ground truth
                    labels = sample.get(key).data.squeeze(0)
                    labels = labels.numpy().astype(np.uint8)
                    seen.update(np.unique(labels))
                    pictures[title] = palette[labels]
            for ax, title in zip(row, ('image', *TITLES)):
                ax.set_axis_off()
                if title in pictures:
                    ax.imshow(pictures[title], interpolation='nearest')
                    ax.set_title(title)
        figure.legend(
            handles=[
                Patch(color=palette[i] / 255, label=meta['classes'][i])
                for i in sorted(seen)
                if i < len(meta['classes'])
            ],
            loc='outside lower center',
            ncols=6,
            frameon=False,
        )
        path = Path(runner.work_dir) / 'predictions.png'
        figure.savefig(path, dpi=120)
        runner.logger.info(f'Image, ground truth and prediction: {path}')
