import difflib
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmea.layers import AttentionBlock2d
from mmea.layers._checks import keep_input
from mmea.registry import MODELS

__all__ = [
    'build_attention',
    'check_attention',
    'takes_argument',
    'without_defaults',
]


def build_attention(
    attention: dict | None,
    in_channels: int,
    *,
    out_channels: int | None = None,
    stride: int = 1,
    padded: bool = True,
    keep: bool = False,
) -> nn.Module:
    """Build the attention of a head or neck from its config.

    Args:
        attention (dict | None): ``type`` and the arguments of a registered
            layer, such as ``dict(type='mmea.ExternalAttention2d',
            num_slots=32)``. ``None`` is no attention, an identity.
        in_channels (int): Width of the map that the host hands to it.
        out_channels (int | None): Width that the host wants back. Another one
            needs a layer with this argument. Default: None, ``in_channels``.
        stride (int): Likewise. Default: 1.
        padded (bool): Whether that map is one of the batch, padding included,
            so that the padding mask applies. ``False`` for maps of regions.
            Default: True.
        keep (bool): The host reads that map again, so that ``inplace`` of the
            layer is set to False. Default: False.

    Returns:
        nn.Module: The layer, (B, in_channels, H, W) to the same, or to what
        the host wants.

    Raises:
        ValueError: ``type`` is missing, not registered or none that works
            on maps, or ``in_channels``, ``out_channels`` or ``stride`` is
            given with another value than the host's.
        TypeError: No dict, or an argument that the layer does not take.
    """
    check_attention(attention)
    if attention is None:
        return nn.Identity()
    cfg = dict(attention)
    kind, cls, known = _find(cfg)
    ours = cls in MODELS.module_dict.values()
    if not inspect.isclass(cls) or (ours and not _is_attention(cls)):
        raise ValueError(
            f'attention.type={kind!r} is no attention on maps, (B, C, H, W) '
            f'to the same; choose from {", ".join(known)}'
        )
    taken = _arguments(cls)
    for name in cfg:
        if name not in taken:
            raise TypeError(
                f'attention.{name} is no argument of {cls.__name__}'
                f'{_suggest(name, taken)}; it takes '
                f'{", ".join(sorted(taken))}'
            )
    if cfg.setdefault('in_channels', in_channels) != in_channels:
        raise ValueError(
            f'attention.in_channels={cfg["in_channels"]}, but the host has '
            f'{in_channels} channels there; leave it out'
        )
    out_channels = out_channels or in_channels
    if out_channels != in_channels:
        cfg.setdefault('out_channels', out_channels)
    if stride != 1:
        cfg.setdefault('stride', stride)
    layer = cls(**cfg)
    for name, want in dict(stride=stride, out_channels=out_channels).items():
        got = getattr(layer, name, want)
        if got != want:
            raise ValueError(
                f'attention.{name}={got}, but the map there must stay as the '
                f'host has it, with {want}; leave it out'
            )
    if padded and not _is_attention(cls):
        print_log(
            f'{kind} takes no padding mask: padding takes part in its '
            'attention',
            'current',
            logging.WARNING,
        )
    for part in layer.modules():
        # A member inside this one asks for the mask by itself.
        if part is layer or hasattr(part, 'padded'):
            part.padded = padded
    return keep_input(layer) if keep else layer


def takes_argument(attention: dict, name: str) -> bool:
    """Tell whether the layer of a config has an argument of this name."""
    return name in _arguments(_find(dict(attention))[1])


def without_defaults(attention: dict) -> dict:
    """Leave out of a config what its layer has without it."""
    defaults = _arguments(_find(dict(attention))[1])
    return {
        name: value
        for name, value in attention.items()
        if name not in defaults or defaults[name] != value
    }


def check_attention(attention: dict | None) -> None:
    """Raise a TypeError for what is no config of an attention."""
    if not isinstance(attention, (Mapping, type(None))):
        raise TypeError(
            'attention must be a dict such as '
            f"dict(type='mmea.ExternalAttention2d'), got {attention=}"
        )


def _find(cfg: dict) -> tuple[str, type, list[str]]:
    """Take the type out of a config; its name, its class, all there are."""
    scope = cfg.pop('_scope_', None)
    kind = cfg.pop('type', None)
    with MODELS.switch_scope_and_registry(scope) as registry:
        cls = registry.get(kind) if isinstance(kind, str) else kind
        known = sorted(
            f'mmea.{name}'
            for name, layer in MODELS.module_dict.items()
            if _is_attention(layer)
        )
    if not callable(cls):  # a function is registered, but no layer
        raise ValueError(
            f'attention.type={kind!r} is not registered'
            f'{_suggest(str(kind), known)}; mmea has {", ".join(known)}'
        )
    return kind, cls, known


def _is_attention(cls: type) -> bool:
    return inspect.isclass(cls) and issubclass(cls, AttentionBlock2d)


def _arguments(cls: type) -> dict[str, Any]:
    """Keyword arguments and defaults, through ``**kwargs`` up the MRO."""
    found: dict[str, Any] = {}
    for base in getattr(cls, '__mro__', ()):
        if '__init__' not in vars(base):
            continue
        params = inspect.signature(vars(base)['__init__']).parameters.values()
        named = {
            p.name: p.default
            for p in params
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        found = named | found
        if all(p.kind is not p.VAR_KEYWORD for p in params):
            break
    # The layers' callables are set by norm_cfg and act_cfg here.
    for name in 'self', 'norm_layer', 'act_layer':
        found.pop(name, None)
    return found


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f' (did you mean {close[0]!r}?)' if close else ''
