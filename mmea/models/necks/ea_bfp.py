from typing import Any

from mmdet.models.necks import BFP
from torch import nn

from mmea.layers._checks import check_positive
from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['EABFP']


@MODELS.register_module()
class EABFP(BFP):
    """Balanced feature pyramid, refined by any attention of mmea.

    mmdet's BFP refines the merged map by non-local attention; this takes its
    place.

    Args:
        in_channels (int): Channels of every level.
        num_levels (int): Number of levels.
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``, the identity
            at the start.
        kwargs: Of mmdet's BFP; ``refine_type`` is not among them.

    Shapes:
        A sequence of (B, in_channels, H_i, W_i) to a tuple of the same.

    Raises:
        ValueError: ``refine_type`` is given.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        *,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        if kwargs.pop('refine_type', None) is not None:
            raise ValueError(
                'refine_type is what attention stands for in EABFP; leave it '
                'out (in a derived config: refine_type=None)'
            )
        check_positive(in_channels=in_channels, num_levels=num_levels)
        super().__init__(in_channels, num_levels, **kwargs)
        self.refine_type = 'attention'
        self.refine: nn.Module = build_attention(attention, in_channels)
