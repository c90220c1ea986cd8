from collections.abc import Sequence
from typing import Any

from torch import nn

from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

from .dynamic_backbone import DynamicBackbone

__all__ = ['StageAttentionResNet']


@MODELS.register_module()
class StageAttentionResNet(DynamicBackbone):
    """A ResNet with one attention block after some of its stages.

    Any backbone of mmdet or mmseg that is made of stages as ResNet is, and
    still one of its kind: ``isinstance`` holds, the names of its parameters
    stay, pretrained weights load. The block is the last module of its stage,
    ``layer3.attention`` for C4, so that the next stage and the neck see what
    it makes.

    It is trained, norm included, whatever ``frozen_stages`` and ``norm_eval``
    say of the stage it follows.

    Args:
        base (str | None): Type of the backbone. Default: None, 'ResNet'.
        after (Sequence[str]): Stages, 'C2' to 'C5', which are ``layer1`` to
            ``layer4``. Default: ('C4',).
        attention (dict): Config of the attention.
            Default: ``dict(type='mmea.ExternalAttention2d')``, the identity
            at the start.
        kwargs: Of the backbone.

    Raises:
        ValueError: An unknown base, one without stages, or a stage that it
            does not have.

    Example:
        ``backbone=dict(type='mmea.StageAttentionResNet', base='ResNet',
        after=['C4'], depth=50, ...)``; over an inherited ResNet the first
        three keys are enough.
    """

    default_base = 'ResNet'

    def __init__(
        self,
        *,
        base: str | None = None,
        after: Sequence[str] = ('C4',),
        attention: dict = dict(type='mmea.ExternalAttention2d'),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        layers = getattr(self, 'res_layers', None)
        if not layers:
            raise ValueError(
                f'base={base!r} has no stages in the way of ResNet; use a '
                'backbone of its family, or EANeck on the maps it returns'
            )
        stages = {f'C{i + 2}': name for i, name in enumerate(layers)}
        if (
            not isinstance(after, (list, tuple, set))
            or not after
            or any(name not in list(stages) for name in after)
        ):
            raise ValueError(
                f'after must list stages of {", ".join(stages)}, got {after=}'
            )
        self.after = [stages[name] for name in stages if name in after]
        for name in self.after:
            stage = getattr(self, name)
            block = build_attention(attention, _width(stage[-1]))
            stage.add_module('attention', block)

    def train(self, mode: bool = True) -> 'StageAttentionResNet':
        blocks = [getattr(self, name).attention for name in self.after]
        trained = [[p.requires_grad for p in b.parameters()] for b in blocks]
        # Freezes whole stages and puts every batch norm into eval mode.
        super().train(mode)
        for block, flags in zip(blocks, trained):
            block.train(mode)
            for param, flag in zip(block.parameters(), flags):
                param.requires_grad = flag
        return self


def _width(block: nn.Module) -> int:
    """Channels that a residual block returns: those of its last conv."""
    names = [f'conv{i}' for i in (3, 2) if hasattr(block, f'conv{i}')]
    if not names:
        raise ValueError(
            f'{type(block).__name__} is no residual block of a ResNet: it '
            'has neither conv3 nor conv2'
        )
    return getattr(block, names[0]).out_channels
