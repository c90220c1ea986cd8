import numpy as np
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmea.registry import HOOKS

from .picture_hook import PictureHook

__all__ = ['SegPictureHook']

KEYS = {'ground truth': 'gt_sem_seg', 'prediction': 'pred_sem_seg'}


@HOOKS.register_module()
class SegPictureHook(PictureHook):
    """Draw image, ground truth and predicted labels side by side.

    After each validation or test the first images are written to
    ``predictions.png`` in the work dir, and the path is logged.

    Args:
        num_images (int): Rows of the picture. Default: 4.
        ignore_index (int): Labels drawn in white. Default: 255.
    """

    def __init__(self, num_images: int = 4, ignore_index: int = 255) -> None:
        super().__init__(num_images)
        self.ignore_index = ignore_index
        self.seen: set[int] = set()

    def before_val_epoch(self, runner: Runner) -> None:
        super().before_val_epoch(runner)
        self.seen = set()

    before_test_epoch = before_val_epoch

    def _palette(self, meta: dict) -> np.ndarray:
        own = np.asarray(meta['palette'], np.uint8)
        palette = np.full((max(len(own), self.ignore_index) + 1, 3), 255, 'B')
        palette[: len(own)] = own
        palette[[self.ignore_index, -1]] = 255
        return palette

    def draw(
        self, image: np.ndarray, sample: BaseDataElement, meta: dict
    ) -> dict[str, np.ndarray]:
        palette, pictures = self._palette(meta), {}
        for title, key in KEYS.items():
            if key in sample:
                labels = sample.get(key).data.squeeze(0)
                labels = labels.numpy().astype(np.int64)
                self.seen.update(np.unique(labels).tolist())
                known = (0 <= labels) & (labels < len(palette))
                pictures[title] = palette[np.where(known, labels, -1)]
        return pictures

    def legend(self, meta: dict) -> list:
        from matplotlib.patches import Patch

        palette = self._palette(meta)
        return [
            Patch(color=palette[i] / 255, label=meta['classes'][i])
            for i in sorted(self.seen)
            if i < len(meta['classes'])
        ]
