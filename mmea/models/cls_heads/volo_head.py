from typing import Any

from torch import Tensor, nn

from mmea.layers._checks import check_number, check_positive
from mmea.models.backbones.dynamic_backbone import DynamicBackbone
from mmea.registry import MODELS

__all__ = ['VOLOHead']


@MODELS.register_module()
class VOLOHead(DynamicBackbone):
    """Classify by the class token, and by the tokens' best scores.

    ``fc(class token) + aux_weight * max over tokens of aux_fc(token)``, each
    class by itself, in training too. The authors train ``aux_fc`` on a label
    for each token instead, which is not here.

    Args:
        num_classes (int): K.
        in_channels (int): Channels C of the tokens.
        aux_weight (float): Default: 0.5, as published.
        base (str | None): Type of the head that it is built on.
            Default: None, 'mmpretrain.LinearClsHead'.
        kwargs: Of that head, such as ``loss`` and ``init_cfg``.

    Shapes:
        Tokens (B, 1 + N, C), the class token first, in a tuple, as a
        :class:`VOLO` with ``out_type='raw'`` returns them, to (B, K).

    Raises:
        ValueError: A number is below 1, or ``aux_weight`` below 0; tokens of
            another shape.

    Source: arXiv:2106.13112, its tokens' scores from the authors' code.
    """

    default_base = 'mmpretrain.LinearClsHead'

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        aux_weight: float = 0.5,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive(num_classes=num_classes, in_channels=in_channels)
        check_number(0, aux_weight=aux_weight)
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, **kwargs
        )
        self.aux_weight = aux_weight
        self.aux_fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        tokens = feats[-1]
        if tokens.dim() != 3:
            raise ValueError(
                'VOLOHead takes tokens (B, 1 + N, C), got '
                f"{tuple(tokens.shape)}; set out_type='raw' in the backbone"
            )
        score = self.aux_fc(tokens[:, 1:]).amax(1)
        return self.fc(tokens[:, 0]) + self.aux_weight * score
