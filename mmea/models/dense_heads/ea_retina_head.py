from typing import Any

from mmdet.models.dense_heads import RetinaHead

from mmea.models.build_attention import build_attention, check_attention
from mmea.registry import MODELS

__all__ = ['EARetinaHead']


@MODELS.register_module()
class EARetinaHead(RetinaHead):
    """RetinaNet's head with attention at the end of both of its towers.

    As the towers are, the attention is shared by all levels, each of which it
    attends to by itself.

    Args:
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``, the identity
            at the start.
        args, kwargs: Of mmdet's RetinaHead.

    Shapes:
        Levels (B, in_channels, H_i, W_i) to scores and boxes of each.
    """

    def __init__(
        self,
        *args: Any,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        check_attention(attention)
        self.attention = attention  # _init_layers is called by the parent
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        width = self.feat_channels if self.stacked_convs else self.in_channels
        # The parent runs through each tower in order.
        for tower in (self.cls_convs, self.reg_convs):
            # Without convolutions both towers read the one map.
            tower.append(
                build_attention(
                    self.attention, width, keep=not self.stacked_convs
                )
            )

    def init_weights(self) -> None:
        super().init_weights()
        if self.attention is None:
            return
        # Which has drawn every convolution anew, ours too.
        for tower in (self.cls_convs, self.reg_convs):
            tower[-1].init_weights()
