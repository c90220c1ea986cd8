from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmea.layers._checks import check_positive
from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['EAHead']


@MODELS.register_module()
class EAHead(BaseDecodeHead):
    """The head of EANet: 3x3 conv, attention, 3x3 conv, dropout, classifier.

    Args:
        in_channels (int): Channels of the backbone's map.
        channels (int): Width of the first conv and of the attention.
            Default: 512.
        mid_channels (int): Width of the second conv and of the classifier's
            input. Default: 256.
        attention (dict): Config of the attention. Default: the published
            block without a norm; EANet's configs add ``norm_cfg`` and
            ``act_cfg``.
        kwargs: Of mmseg's BaseDecodeHead (``num_classes`` is required).

    Shapes:
        Maps of the backbone, (B, in_channels, H, W) at ``in_index``, to
        logits (B, num_classes, H, W).

    Source: arXiv:2105.02358; widths from the authors' segmentation code.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 512,
        mid_channels: int = 256,
        *,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        check_positive(channels=channels, mid_channels=mid_channels)
        # To the base class, channels is what the classifier sees.
        super().__init__(in_channels, mid_channels, **kwargs)
        conv = dict(
            kernel_size=3,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )
        self.conv_in = ConvModule(self.in_channels, channels, **conv)
        self.attention = build_attention(attention, channels)
        self.conv_out = ConvModule(channels, mid_channels, **conv)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        x = self.conv_in(self._transform_inputs(inputs))
        return self.cls_seg(self.conv_out(self.attention(x)))
