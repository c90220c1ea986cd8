"""Attention in a cost volume, by the layers on maps."""

import logging

from mmengine.logging import print_log
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers import (
    EfficientAttention2d,
    ExternalAttention2d,
    LinearAttention2d,
    NonLocal2d,
    SAGANExternalAttention2d,
    SelfAttention2d,
)
from mmea.models.build_attention import build_attention

__all__ = ['VolumeAttention']

#: Those that treat all tokens alike, wherever they are: (B, C, D H, W) is the
#: volume to them.
LINEAR = (
    EfficientAttention2d,
    ExternalAttention2d,
    LinearAttention2d,
    SAGANExternalAttention2d,
)
#: The same, but they compare each token with each.
QUADRATIC = (NonLocal2d, SelfAttention2d)


class VolumeAttention(nn.Module):
    """Let a layer on maps attend to all tokens of a volume.

    Exact for layers in which positions play no part: external, efficient and
    linear attention, SAGAN's with external attention; non-local blocks and
    self-attention too, whose cost, N^2 pairs of N = D H W tokens, is logged
    at the first call.

    Args:
        attention (dict): As of
            :func:`mmea.models.build_attention.build_attention`.
        channels (int): C.

    Shapes:
        (B, C, D, H, W) to the same.

    Raises:
        UserError: A layer that reads neighbours or positions.
        ValueError, TypeError: As of ``build_attention``.
    """

    def __init__(self, attention: dict, channels: int) -> None:
        super().__init__()
        self.layer = build_attention(attention, channels, padded=False)
        self.quadratic = isinstance(self.layer, QUADRATIC)
        known = isinstance(self.layer, LINEAR + QUADRATIC)
        if not known or getattr(self.layer, 'sub_sample', False):
            names = ', '.join(cls.__name__ for cls in LINEAR + QUADRATIC)
            raise UserError(
                f'attention={attention} reads the neighbours or the positions '
                'of a map, which in a cost volume are others; choose from '
                f'{names} (without sub_sample), or set '
                "attention_place='features'"
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.quadratic:
            self._tell_cost(x)
        return self.layer(x.flatten(2, 3)).view_as(x)

    def _tell_cost(self, x: Tensor) -> None:
        self.quadratic = False  # once
        tokens = x[0, 0].numel()
        print_log(
            f'{type(self.layer).__name__} in a cost volume of {tokens:,} '
            f'tokens compares {tokens**2:.2g} pairs per image, '
            f'{tokens**2 * x.element_size() / 2**30:.3g} GiB where it keeps '
            'them; an attention of linear cost is external or efficient',
            'current',
            logging.WARNING,
        )
