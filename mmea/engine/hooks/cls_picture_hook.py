from typing import TYPE_CHECKING

import mmcv

from mmea.registry import HOOKS

from .picture_hook import PictureHook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['ClsPictureHook']

COLUMNS = 4


@HOOKS.register_module()
class ClsPictureHook(PictureHook):
    """Draw images with their true and their predicted class.

    After each validation or test the first images are written to
    ``predictions.png`` in the work dir, and the path is logged. Below each
    the ground truth, then the prediction with its score: green where it is
    right, red where it is wrong.

    Args:
        num_images (int): Images of the picture. Default: 12.
    """

    def __init__(self, num_images: int = 12) -> None:
        super().__init__(num_images)

    def make_figure(self, meta: dict) -> 'Figure':
        from matplotlib.figure import Figure

        rows = -(-len(self.samples) // COLUMNS)
        figure = Figure((9, 2.8 * rows), layout='constrained')
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, sample in zip(axes, self.samples):
            ax.imshow(mmcv.imread(sample.img_path, channel_order='rgb'))
            predicted = int(sample.pred_label)
            score = sample.pred_score[predicted].item()
            lines = [f'{_name(predicted, meta)} {score:.0%}']
            colour = 'black'
            # A test set may have no ground truth.
            if 'gt_label' in sample:
                truth = sample.gt_label.tolist()
                names = ', '.join(_name(label, meta) for label in truth)
                lines.insert(0, names)
                colour = 'green' if predicted in truth else 'red'
            for i, line in enumerate(lines):
                ax.text(
                    0.5,
                    -0.04 - 0.1 * i,
                    line,
                    color=colour if i == len(lines) - 1 else 'black',
                    transform=ax.transAxes,
                    ha='center',
                    va='top',
                )
        return figure


def _name(label: int, meta: dict) -> str:
    """Take the first of a class's names: ImageNet has several for many."""
    classes = meta.get('classes')
    return classes[label].partition(',')[0] if classes else str(label)
