from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmea.layers._checks import check_indices
from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['EANeck']


@MODELS.register_module()
class EANeck(BaseModule):
    """Refine the levels of a feature pyramid with attention.

    Goes after any neck: ``neck=[dict(type='FPN', ...), dict(type=
    'mmea.EANeck', in_channels=[256] * 5)]``, in mmseg and mmdet alike. With
    the default attention it starts as the identity.

    Args:
        in_channels (Sequence[int]): Channels of every level handed over.
        levels (Sequence[int] | None): Indices of the levels to refine,
            negative ones count from the end; the others pass unchanged.
            Default: None, all.
        share (bool): One attention, one pair of memories, for all refined
            levels instead of one for each. Default: False.
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``.
        init_cfg (dict | None): Of mmengine's BaseModule.

    Shapes:
        A sequence of (B, C_i, H_i, W_i) to a tuple of the same.

    Raises:
        ValueError: A level is out of range or named twice, shared levels
            differ in width, or the input has another number of levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        levels: Sequence[int] | None = None,
        share: bool = False,
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(in_channels, Sequence) or not in_channels:
            raise ValueError(
                'in_channels must list the channels of every level, such as '
                f'[256, 256, 256, 256], got {in_channels=}'
            )
        count = len(in_channels)
        levels = range(count) if levels is None else levels
        chosen = check_indices(levels, 'levels')
        if any(not -count <= level < count for level in chosen):
            raise ValueError(
                f'levels must be in {-count}..{count - 1}, got {levels=} for '
                f'{count} levels'
            )
        self.in_channels = list(in_channels)
        self.levels = [level % count for level in chosen]
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(
                f'levels must name one level or more, each once, got {levels=}'
            )
        widths = [self.in_channels[level] for level in self.levels]
        if share and len(set(widths)) > 1:
            raise ValueError(
                f'share=True needs levels of one width, got {widths}; set '
                'share=False or choose other levels'
            )
        self.share = share
        self.attentions = ModuleList(
            build_attention(attention, width)
            for width in (widths[:1] if share else widths)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'in_channels describes {len(self.in_channels)} levels, got '
                f'{len(inputs)} feature maps'
            )
        outs = list(inputs)
        for i, level in enumerate(self.levels):
            attention = self.attentions[0 if self.share else i]
            outs[level] = attention(outs[level])
        return tuple(outs)
