"""The published parts and nets that can be converted: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import (
    pct_rules,
    psmnet_rules,
    rules,
    sagan_rules,
    shapes,
    volo_rules,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['SOURCES', 'Source', 'list_sources']


class Source(NamedTuple):
    """A published state_dict: how to rename it, what it is and becomes."""

    rules: Mapping[str, str]
    origin: str
    target: str
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


# Markdown, as docs/checkpoints.md and the command show it. A call in front of
# a target is what the tests build, beside its sizes.
#: What :func:`convert` knows, by name.
SOURCES = {
    'eanet': Source(
        rules.EANET,
        "the whole EANet of the authors' segmentation code",
        'the model of `configs/eanet/*voc12aug*`',
    ),
    'eanet_head': Source(
        rules.EANET_HEAD, 'EANet without its backbone', '`EAHead`'
    ),
    'eanet_block': Source(
        rules.EANET_BLOCK,
        "EANet's attention block",
        '`ExternalAttention2d(norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU)`',
    ),
    'ea_core': Source(
        rules.EA_CORE,
        'two memories `mk`, `mv`',
        '`key_memory`, `value_memory`',
    ),
    'non_local': Source(
        rules.NON_LOCAL,
        "mmcv's `NonLocal2d`",
        '`NonLocal2d()`, norm and other arguments as there',
    ),
    'efficient_attention': Source(
        rules.EFFICIENT,
        "the authors' `EfficientAttention`",
        '`EfficientAttention2d()`',
    ),
    'linear_attention': Source(
        rules.LINEAR,
        "the authors' `PositionLinearAttention`, `ChannelLinearAttention`",
        '`LinearAttention2d(compat=True)` in that `mode`',
    ),
    'stand_alone_attention': Source(
        rules.STAND_ALONE,
        "leaderj1001's `AttentionConv`",
        '`StandAloneAttention2d(channelwise=True, residual=False)`',
    ),
    'halonet': Source(
        rules.HALONET,
        "lucidrains' `HaloAttention`",
        '`HaloAttention2d(residual=False)`',
        shapes.finish_halonet,
    ),
    'timm_halo': Source(
        rules.TIMM_HALO,
        "timm's `HaloAttn`",
        '`HaloAttention2d(masked=False, project=False, '
        'scale_position=False, residual=False)`, of no stride: timm counts '
        'strided queries otherwise',
        shapes.finish_timm_halo,
    ),
    'elsa': Source(
        rules.ELSA,
        "the authors' `ELSA`",
        '`ELSA2d(residual=False)`, other arguments as there',
        shapes.finish_elsa,
    ),
    'elsa_swin': Source(
        rules.ELSA_SWIN,
        "the backbone of the authors' detectors (prefix `backbone.`)",
        '`ELSASwin`, in mmdet or mmseg',
        shapes.finish_elsa_swin,
    ),
    'elsa_swin_classifier': Source(
        rules.ELSA_SWIN_CLASSIFIER,
        "the authors' ELSA-Swin for ImageNet",
        "mmpretrain's `ImageClassifier` with an `ELSASwin` and a "
        '`LinearClsHead`',
        shapes.finish_elsa_swin,
    ),
    'outlook_attention': Source(
        rules.OUTLOOK,
        "the authors' and timm's `OutlookAttention`",
        '`OutlookAttention2d(residual=False)`, other arguments as there',
        shapes.linears_to_convs,
    ),
    'volo': Source(
        volo_rules.CLASSIFIER,
        "the authors' and timm's VOLO, such as `volo_d1_224`",
        "mmpretrain's `ImageClassifier` with a `VOLO(out_type='raw')` and a "
        '`VOLOHead`, of the same `img_size`',
        volo_rules.finish,
    ),
    'eamlp_attention': Source(
        rules.MULTIHEAD,
        "the attention of EAMLP's blocks",
        '`MultiheadExternalAttention(batch_first=True)`',
    ),
    'eamlp_block': Source(
        rules.EAMLP_BLOCK, 'a block of EAMLP', "a block of `EAMLP`'s"
    ),
    'eamlp_token_performer': Source(
        rules.eamlp_token_layer(0),
        "a layer of EAMLP's tokens-to-token module, of the published nets",
        "that of `EAMLP`'s",
    ),
    'eamlp_token_transformer': Source(
        rules.eamlp_token_layer(1),
        'the same of the other kind',
        "that of `EAMLP`'s",
    ),
    'eamlp_performer': Source(
        rules.eamlp(0),
        'the whole EAMLP with tokens of this kind, as published',
        "mmpretrain's `ImageClassifier` with an `EAMLP` and a `LinearClsHead`",
    ),
    'eamlp_transformer': Source(
        rules.eamlp(1), 'the same with tokens of the other kind', 'the same'
    ),
    'caam_cbam': Source(rules.CAAM_CBAM, "CaaM's `CBAM`", '`CBAMGate2d()`'),
    'caam_attention': Source(
        rules.CAAM_ATTENTION, "CaaM's `Attention_ours`", '`CaaMAttention()`'
    ),
    'caam_block': Source(
        rules.CAAM_BLOCK, "CaaM's `BasicBlock`", '`CaaMBlock`'
    ),
    'caam_resnet': Source(
        rules.CAAM_RESNET,
        "CaaM's `ResNet`, without a classifier",
        '`CaaMResNet`',
    ),
    'caam_transformer_block': Source(
        rules.CAAM_TRANSFORMER,
        "CaaM's `Block_ours`",
        '`CaaMTransformerBlock`',
    ),
    'catt_ft': Source(
        rules.CATT_FT,
        '`BertLayer` of LXMERT + CATT, of this type',
        '`CATTLayer()`',
    ),
    'catt_ft_same': Source(
        rules.CATT_SAME, 'the same of this type', '`CATTLayer(shared=True)`'
    ),
    'catt_ft_same_fused': Source(
        rules.CATT_FUSED,
        'the latter as `layer`, with a fusion `fc`',
        '`CATT2d(shared=True, residual=False)`',
        shapes.linear_to_conv,
    ),
    'pct_attention': Source(
        pct_rules.ATTENTION,
        "PCT's offset attention `SA_Layer`",
        '`OffsetAttention1d()`',
        pct_rules.finish,
    ),
    'pct_classifier': Source(
        pct_rules.CLASSIFIER,
        "PCT's classifier, and PCT_Pytorch's, which has two `num_convs` and "
        'no `position`',
        '`PointCloudClassifier` with a `PCT`',
        pct_rules.finish,
    ),
    'pct_part_segmentor': Source(
        pct_rules.SEGMENTOR,
        "PCT's `Point_Transformer_partseg`",
        '`PointPartSegmentor` with a `PCT`',
        pct_rules.finish,
    ),
    'sagan_attention': Source(
        sagan_rules.ATTENTION,
        "StudioGAN's `SelfAttention`",
        '`SAGANAttention2d()`',
    ),
    'sagan_generator_block': Source(
        sagan_rules.GENERATOR_BLOCK,
        "a `GenBlock` of StudioGAN's `resnet`",
        "a block of `SAGANGenerator`'s",
        shapes.finish_sagan,
    ),
    'sagan_generator': Source(
        sagan_rules.GENERATOR,
        "StudioGAN's `Generator` of SAGAN",
        '`SAGANGenerator`, of the same sizes',
        shapes.finish_sagan,
    ),
    'sagan_discriminator_block': Source(
        sagan_rules.DISCRIMINATOR_BLOCK,
        "a `DiscBlock` of StudioGAN's `resnet`",
        "a block of `SAGANDiscriminator`'s",
    ),
    'sagan_discriminator': Source(
        sagan_rules.DISCRIMINATOR,
        "StudioGAN's `Discriminator` of SAGAN",
        '`SAGANDiscriminator`, of the same sizes',
    ),
    'psmnet': Source(
        psmnet_rules.PSMNET,
        "PSMNet's `stackhourglass` and `basic`",
        '`PSMNet` of that `form`',
    ),
    'resnet': Source(
        rules.RESNET,
        "torchvision's or timm's ResNet, such as `resnet50`",
        "mmpretrain's `ImageClassifier` with a `ResNet` and a `LinearClsHead`",
    ),
    'timm_resnet_d': Source(
        rules.TIMM_RESNET_D,
        "timm's ResNet with a deep stem, such as `resnet50d`",
        'the same with a `ResNetV1d`',
    ),
    'torchvision_mobilenet_v2': Source(
        rules.mobilenet_v2(timm=False),
        "torchvision's MobileNetV2",
        'the same with a `MobileNetV2`; its backbone in mmseg too',
    ),
    'torchvision_mobilenet_v2_mmdet': Source(
        rules.mobilenet_v2(timm=False, mmdet=True),
        "torchvision's MobileNetV2",
        'its backbone in mmdet, whose names differ',
    ),
    'timm_mobilenet_v2': Source(
        rules.mobilenet_v2(timm=True),
        "timm's MobileNetV2, such as `mobilenetv2_100`",
        'as of `torchvision_mobilenet_v2`',
    ),
    'timm_mobilenet_v2_mmdet': Source(
        rules.mobilenet_v2(timm=True, mmdet=True),
        "timm's MobileNetV2",
        'as of `torchvision_mobilenet_v2_mmdet`',
    ),
}
#: Of these, what :func:`mmea.convert.fit` tries on a backbone.
BACKBONES = (
    'resnet',
    'timm_resnet_d',
    'torchvision_mobilenet_v2',
    'torchvision_mobilenet_v2_mmdet',
    'timm_mobilenet_v2',
    'timm_mobilenet_v2_mmdet',
)


def list_sources() -> str:
    """List :data:`SOURCES` as a table in Markdown."""
    rows = [('source', 'from', 'to'), ('---', '---', '---')]
    rows += [(f'`{k}`', s.origin, s.target) for k, s in SOURCES.items()]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)
