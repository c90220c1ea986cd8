from typing import Any

from mmengine.model import Sequential
from torch import nn

from mmea.layers._checks import check_choice, check_config, check_flags
from mmea.models.build_attention import build_attention, takes_argument
from mmea.registry import MODELS

from .dynamic_backbone import DynamicBackbone

__all__ = ['LocalAttentionResNet']


@MODELS.register_module()
class LocalAttentionResNet(DynamicBackbone):
    """A ResNet whose 3x3 convolutions are attention from some stage on.

    Convolution early, attention late: stages before ``from_stage`` are those
    of the ResNet, with the names of its parameters, so its pretrained weights
    load there and in all 1x1 convolutions. In the later ones every 3x3
    convolution is the attention without its residual. Where the convolution
    had a stride, the attention gets it if it takes one; else average pooling
    of ceil(H / s) x ceil(W / s) outputs follows it.

    It works on ResNet, ResNetV1c, ResNetV1d and ResNeXt of mmseg, mmdet and
    mmpretrain; ``frozen_stages``, ``norm_eval``, ``with_cp``, ``out_indices``
    and the others are theirs and hold for the attention too.

    Args:
        depth (int): One of the base's, or 26 or 38, bottlenecks of 1, 2, 4, 1
            and of 2, 3, 5, 2. Default: 50.
        attention (dict): Config of the attention, without ``residual``,
            ``out_channels`` and ``stride``.
            Default: ``dict(type='mmea.StandAloneAttention2d')``.
        from_stage (str): The first stage of attention, 'C2' to 'C5', which
            are ``layer1`` to ``layer4``. 'C2' is all of them.
            Default: 'C4'.
        attention_stem (bool): Replace the 7x7 convolution of the stem by
            :class:`mmea.layers.StandAloneStem2d`, leave out the ReLU, and
            make the pooling that of its 4x4 blocks. Default: False.
        base (str | None): Type of the ResNet. Default: None, 'ResNet'.
        kwargs: Of the ResNet.

    Shapes:
        (B, 3, H, W) to a tuple of maps, ceil(H / 4) x ceil(W / 4) for C2 and
        half of it from stage to stage, as those of the ResNet.

    Raises:
        ValueError: An unknown base or stage, dilation in a stage of attention,
            a block without a plain 3x3 convolution, or an attention stem in
            the place of a deep one.

    Source: arXiv:1906.05909; which stages, too: its recipe is convolution
    early and attention late.
    """

    default_base = 'ResNet'
    conv1: Any

    def __init__(
        self,
        *,
        depth: int = 50,
        attention: dict = dict(type='mmea.StandAloneAttention2d'),
        from_stage: str = 'C4',
        attention_stem: bool = False,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_flags(attention_stem=attention_stem)
        check_choice('depth', depth, self.arch_settings)
        check_config(attention=attention)
        super().__init__(depth=depth, **kwargs)
        layers = getattr(self, 'res_layers', [])
        stages = {f'C{i + 2}': name for i, name in enumerate(layers)}
        check_choice('from_stage', from_stage, stages)
        first = layers.index(stages[from_stage])
        for name in layers[first:]:
            for block in getattr(self, name):
                _replace_convs(block, attention)
        if attention_stem:
            self._replace_stem()
        # What is new is frozen as what it replaces.
        self._freeze_stages()

    @property
    def arch_settings(self) -> dict:
        settings = super().arch_settings
        bottleneck = settings[50][0]
        return {
            26: (bottleneck, (1, 2, 4, 1)),
            38: (bottleneck, (2, 3, 5, 2)),
            **settings,
        }

    def _replace_stem(self) -> None:
        if self.deep_stem:
            raise ValueError(
                'attention_stem=True replaces one 7x7 convolution, but '
                'deep_stem=True has three; leave one of the two out'
            )
        conv = self.conv1
        stem = dict(type='mmea.StandAloneStem2d', residual=False)
        self.conv1 = build_attention(
            stem, conv.in_channels, out_channels=conv.out_channels
        )
        self.relu = nn.Identity()
        size = self.conv1.block_size
        # Over the border too, for ceil(H / 4) as with the convolution.
        self.maxpool = nn.MaxPool2d(size, size, ceil_mode=True)


def _replace_convs(block: nn.Module, attention: dict) -> None:
    convs = {
        name: conv
        for name, conv in block.named_children()
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)
    }
    if not convs:
        raise ValueError(
            f'{type(block).__name__} has no plain 3x3 convolution to '
            'replace; use a base made of the blocks of ResNet, without '
            'deformable convolution'
        )
    for name, conv in convs.items():
        setattr(block, name, _attend_as(conv, attention))


def _attend_as(conv: nn.Conv2d, attention: dict) -> nn.Module:
    """Attention in the place of a convolution."""
    if conv.dilation != (1, 1):
        raise ValueError(
            'stages of attention have no dilation, got a 3x3 convolution '
            f'with dilation={conv.dilation}; set dilations to 1 from '
            'from_stage on (strides may stay)'
        )
    cfg = dict(attention, residual=False)
    stride = conv.stride[0]
    itself = stride == 1 or takes_argument(cfg, 'stride')
    layer = build_attention(
        cfg,
        conv.in_channels,
        out_channels=conv.out_channels,
        stride=stride if itself else 1,
    )
    if itself:
        return layer
    # count_include_pad: see StandAloneAttention2d, for torch.compile.
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
    return Sequential(layer, pool)
