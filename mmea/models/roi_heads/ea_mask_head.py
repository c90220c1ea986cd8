from typing import Any

from mmdet.models.roi_heads.mask_heads import FCNMaskHead

from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['EAMaskHead']


@MODELS.register_module()
class EAMaskHead(FCNMaskHead):
    """Mask R-CNN's mask head with attention behind its convolutions.

    The tokens are those of one region, 14 x 14 by default; a region has no
    padding.

    Args:
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``, the identity
            at the start.
        args, kwargs: Of mmdet's FCNMaskHead.

    Shapes:
        (regions, in_channels, h, w) to (regions, classes, 2 h, 2 w).
    """

    def __init__(
        self,
        *args: Any,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        width = self.conv_out_channels if self.num_convs else self.in_channels
        # The parent runs through its convolutions in order.
        # What it is given, a head that scores the masks reads too.
        keep = not self.num_convs
        self.convs.append(
            build_attention(attention, width, padded=False, keep=keep)
        )
