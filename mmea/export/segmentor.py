from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from mmea.errors import UserError

from .graph import Graph, samples, softmax
from .images import to_stack

__all__ = ['SegmentorGraph']


class SegmentorGraph(Graph):
    """A segmentor of mmseg.

    Args:
        model (nn.Module): An EncoderDecoder.
        size (tuple[int, int] | None): Height and width, if fixed.

    Shapes:
        Images (B, C, H, W) to ``labels`` (B, H, W), int64, and ``scores``
        (B, num_classes, H, W): probabilities by softmax, of a model of one
        class by a sigmoid.

    Raises:
        UserError: The model is tested by sliding windows.
    """

    task = 'semantic segmentation'

    def __init__(
        self, model: Any, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(model)
        crop = model.test_cfg.get('crop_size')
        slides = model.test_cfg.get('mode', 'whole') == 'slide'
        if slides and not (size and size[0] <= crop[0] and size[1] <= crop[1]):
            raise UserError(
                'model.test_cfg.mode is slide, and a graph has no windows: '
                f'export the net of one by --fixed-size {crop[0]} {crop[1]}, '
                'or that of whole images by --cfg-options '
                'model.test_cfg.mode=whole'
            )
        self.threshold: Any = getattr(model.decode_head, 'threshold', None)

    def compute(self, x: Tensor, height: int, width: int) -> tuple:
        size = tuple(x.shape[-2:])
        # One stands for all images: they have one size.
        meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
        logits = self.model.encode_decode(x, [meta])[..., :height, :width]
        if logits.shape[1] > 1:
            return softmax(logits)
        scores = logits.sigmoid()
        return (scores[:, 0] > self.threshold).long(), scores

    @staticmethod
    def predict(model: Any, image: Tensor) -> tuple[Tensor, ...]:
        found = model.test_step(
            dict(
                inputs=to_stack(image),
                data_samples=samples(SegDataSample, image),
            )
        )
        return _stack(found)

    def margin(self, scores: Tensor) -> Tensor:
        if scores.shape[1] > 1:
            return super().margin(scores)
        return (scores[:, 0] - self.threshold).abs()


def _stack(found: list) -> tuple[Tensor, Tensor]:
    labels = torch.stack([s.pred_sem_seg.data[0] for s in found])
    scores = torch.stack([s.seg_logits.data for s in found])
    # mmseg has taken the sigmoid itself.
    return labels.long(), scores.softmax(1) if scores.shape[1] > 1 else scores
