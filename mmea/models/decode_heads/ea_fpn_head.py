from typing import Any

from mmseg.models.decode_heads import FPNHead
from torch import Tensor

from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['EAFPNHead']


@MODELS.register_module()
class EAFPNHead(FPNHead):
    """Semantic FPN's head with attention on the merged map at stride 4.

    A 512 x 512 crop has 16384 tokens there, where the N x N map of a
    quadratic attention does not fit.

    Args:
        feature_strides (tuple[int, ...]): Strides of the input maps.
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``.
        kwargs: Of mmseg's FPNHead.

    Shapes:
        Maps (B, in_channels[i], H / stride_i, W / stride_i) to logits
        (B, num_classes, H / 4, W / 4).
    """

    def __init__(
        self,
        feature_strides: tuple[int, ...],
        *,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_strides, **kwargs)
        self.attention = build_attention(attention, self.channels)

    def cls_seg(self, feat: Tensor) -> Tensor:
        # The parent's forward ends here with the merged map.
        return super().cls_seg(self.attention(feat))
