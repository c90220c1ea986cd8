import difflib
import inspect
import logging

from mmengine.logging import print_log
from torch import nn

from mmea.registry import MODELS

__all__ = ['build_attention', 'takes_argument']


def build_attention(
    attention: dict, in_channels: int, *, padded: bool = True
) -> nn.Module:
    """Build the attention of a head or neck from its config.

    Args:
        attention (dict): ``type`` and the arguments of a registered layer,
            such as ``dict(type='mmea.ExternalAttention2d', num_slots=32)``.
        in_channels (int): Width of the map that the host hands to it.
        padded (bool): Whether that map is one of the batch, padding included,
            so that the padding mask applies. ``False`` for maps of regions.
            Default: True.

    Returns:
        nn.Module: The layer, (B, in_channels, H, W) to the same.

    Raises:
        ValueError: ``type`` is missing or not registered, or
            ``in_channels`` is given again with another value.
        TypeError: An argument that the layer does not take.
    """
    cfg = dict(attention)
    kind, cls = _find(cfg)
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
    layer = cls(**cfg)
    if padded and not getattr(cls, 'supports_mask', False):
        print_log(
            f'{kind} takes no padding mask: padding takes part in its '
            'attention',
            'current',
            logging.WARNING,
        )
    layer.padded = padded
    return layer


def takes_argument(attention: dict, name: str) -> bool:
    """Whether the layer that a config names has an argument of this name."""
    return name in _arguments(_find(dict(attention))[1])


def _find(cfg: dict) -> tuple[str, type]:
    """Take the type out of a config; its name and class."""
    scope = cfg.pop('_scope_', None)
    kind = cfg.pop('type', None)
    with MODELS.switch_scope_and_registry(scope) as registry:
        cls = registry.get(kind) if isinstance(kind, str) else kind
        known = sorted(
            f'mmea.{name}'
            for name, layer in MODELS.module_dict.items()
            if hasattr(layer, 'attend')
        )
    if not inspect.isclass(cls):
        raise ValueError(
            f'attention.type={kind!r} is not registered'
            f'{_suggest(str(kind), known)}; mmea has {", ".join(known)}'
        )
    return kind, cls


def _arguments(cls: type) -> set[str]:
    """Names of keyword arguments, through every ``**kwargs`` up the MRO."""
    names = set()
    for base in cls.__mro__:
        if '__init__' not in vars(base):
            continue
        params = inspect.signature(base.__init__).parameters.values()
        names |= {
            p.name
            for p in params
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        if all(p.kind is not p.VAR_KEYWORD for p in params):
            break
    # The layers' callables are set by norm_cfg and act_cfg here.
    return names - {'self', 'norm_layer', 'act_layer'}


def _suggest(name: str, known) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f' (did you mean {close[0]!r}?)' if close else ''
