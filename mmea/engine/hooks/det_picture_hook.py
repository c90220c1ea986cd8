import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmea.engine.drawing import draw_instances
from mmea.registry import HOOKS

from .picture_hook import PictureHook

__all__ = ['DetPictureHook']

KEYS = {'ground truth': 'gt_instances', 'prediction': 'pred_instances'}
SIDE = 256  # pixels; smaller images are enlarged, so that names can be read


@HOOKS.register_module()
class DetPictureHook(PictureHook):
    """Draw image, true and predicted boxes (and masks) side by side.

    After each validation or test the first images are written to
    ``predictions.png`` in the work dir, and the path is logged.

    Args:
        num_images (int): Rows of the picture. Default: 4.
        score_thr (float): Predictions of a lower score are left out.
            Default: 0.3.
    """

    def __init__(self, num_images: int = 4, score_thr: float = 0.3) -> None:
        super().__init__(num_images)
        self.score_thr = score_thr

    def draw(
        self, image: np.ndarray, sample: BaseDataElement, meta: dict
    ) -> dict[str, np.ndarray]:
        height, width = image.shape[:2]
        scale = max(1, round(SIDE / max(height, width)))
        size = width * scale, height * scale
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        return {
            title: draw_instances(
                image,
                _enlarge(sample.get(key), scale),
                meta,
                score_thr=self.score_thr,
            )
            for title, key in KEYS.items()
            if key in sample
        }


def _enlarge(instances: InstanceData, scale: int) -> InstanceData:
    """Boxes and masks for an image that is ``scale`` times as large."""
    boxes = instances.bboxes
    out = InstanceData(
        bboxes=getattr(boxes, 'tensor', boxes) * scale, labels=instances.labels
    )
    if 'scores' in instances:
        out.scores = instances.scores
    if 'masks' in instances and len(instances):
        masks = instances.masks
        if not isinstance(masks, torch.Tensor):
            masks = torch.from_numpy(masks.to_ndarray())
        out.masks = masks.bool().repeat_interleave(scale, 1)
        out.masks = out.masks.repeat_interleave(scale, 2)
    return out
