"""Whether an attention module may be replaced; its place must tell."""

import inspect
from itertools import pairwise
from typing import Any

from torch import nn

from .rules import BARE_TOKENS, MAPS, SOURCES, has_name, kind_of

__all__ = ['obstacle']

# Self-attention by a name that does not say so.
_SELF = (
    ('mmseg.models.backbones.vit.TransformerEncoderLayer', 'attn'),
    ('mmseg.models.decode_heads.knet_head.KernelUpdateHead', 'attention'),
    ('mmdet.models.roi_heads.bbox_heads.dii_head.DIIHead', 'attention'),
)
# Hosts that hand a pairwise mask to the attention in this part of them.
_MASKED = (
    ('mmseg.models.text_encoder.clip_text_encoder.CLIPTextEncoder', ''),
    ('mmseg.models.decode_heads.san_head.RecWithAttnbias', ''),
    (
        'mmdet.models.layers.transformer.grounding_dino_layers.'
        'GroundingDinoTransformerEncoder',
        'text_layers',
    ),
)


def obstacle(path: list[tuple[str, nn.Module]]) -> str | None:
    """Say why a module is not, or may not be, unmasked self-attention.

    Args:
        path (list[tuple[str, nn.Module]]): The way to it: each module with
            its attribute in the one before, from the model to the attention.

    Returns:
        str | None: The reason, or None where it may be replaced.
    """
    module = path[-1][1]
    return _signature(module) or _role(path)


def _signature(module: nn.Module) -> str | None:
    """Say why a module cannot be called as its known base is."""
    kind = kind_of(type(module)) or ''
    if kind in MAPS:
        return None
    known = next(
        base
        for base in type(module).__mro__
        if f'{base.__module__}.{base.__qualname__}' in SOURCES[kind]
    )
    own = _parameters(type(module))
    if own != _parameters(known):
        return f'its forward({", ".join(own)}) is not that of {kind}'
    if kind in ('EfficientMultiheadAttention', 'SpatialReductionAttention'):
        return None if module.batch_first else 'it is not batch_first'
    return None


def _role(path: list[tuple[str, nn.Module]]) -> str | None:
    """Say why a module is not, or may not be, unmasked self-attention.

    Nothing has run yet, so the place must tell.
    """
    *hosts, (attr, module) = path
    if kind_of(type(module)) not in BARE_TOKENS:
        return None  # called with one sequence
    torch_attn = getattr(module, 'attn', module)
    if not getattr(torch_attn, '_qkv_same_embed_dim', True):
        return 'cross-attention: keys have another width'
    layer = _layer([host for _, host in hosts])
    # BaseTransformerLayer of mmcv writes the role onto the module.
    role = getattr(module, 'operation_name', attr)
    if 'cross' in role:
        return 'cross-attention'
    if role != 'self_attn' and not any(
        has_name(type(layer), name) and attr == known for name, known in _SELF
    ):
        return (
            f'it cannot be told whether {attr!r} of {type(layer).__name__} '
            'is self-attention'
        )
    for (_, host), (below, _) in pairwise(path):
        for name, part in _MASKED:
            if has_name(type(host), name) and below.startswith(part):
                return f'{type(host).__name__} hands it a pairwise mask'
        if getattr(host, 'use_nested_tensor', False):
            return (
                f'{type(host).__name__} reads its weights itself; build it '
                'with enable_nested_tensor=False'
            )
    names = [name for name, _ in layer.named_children()]
    names += getattr(layer, 'operation_order', None) or ()
    decoder = any('cross' in n or n == 'multihead_attn' for n in names)
    masks = [
        name
        for name in _parameters(type(layer))
        if 'mask' in name and 'padding' not in name and 'cross' not in name
    ]
    if decoder and masks:
        return (
            f'{type(layer).__name__} may hand it a pairwise mask '
            f'({", ".join(masks)})'
        )
    return None


def _layer(hosts: list[nn.Module]) -> nn.Module:
    """Find the layer that calls a module: the nearest that is no container."""
    for host in reversed(hosts):
        if not isinstance(host, (nn.ModuleList, nn.Sequential)):
            return host
    return hosts[0]


def _parameters(cls: type[Any]) -> list[str]:
    """Names of the parameters of forward()."""
    return list(inspect.signature(cls.forward).parameters)
