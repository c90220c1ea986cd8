"""What a rule says, and the attention of the stack that it can name."""

import inspect
from fnmatch import fnmatchcase
from typing import Any

from mmengine.utils import get_object_from_string
from torch import nn

__all__ = ['BARE_TOKENS', 'MAPS', 'SOURCES', 'Rule', 'has_name', 'kind_of']

_MMCV = 'mmcv.cnn.bricks'
#: Names that a rule's ``source`` may have: the classes that they stand for.
#: A subclass comes before its base.
SOURCES = {
    'DisentangledNonLocal2d': (
        'mmseg.models.decode_heads.dnl_head.DisentangledNonLocal2d',
    ),
    'NonLocal2d': (f'{_MMCV}.non_local.NonLocal2d',),
    'ContextBlock': (f'{_MMCV}.context_block.ContextBlock',),
    'ShiftWindowMSA': (
        'mmseg.models.backbones.swin.ShiftWindowMSA',
        'mmdet.models.backbones.swin.ShiftWindowMSA',
    ),
    'EfficientMultiheadAttention': (
        'mmseg.models.backbones.mit.EfficientMultiheadAttention',
    ),
    'SpatialReductionAttention': (
        'mmdet.models.backbones.pvt.SpatialReductionAttention',
    ),
    'MultiheadAttention': (f'{_MMCV}.transformer.MultiheadAttention',),
    'torch.nn.MultiheadAttention': (
        'torch.nn.modules.activation.MultiheadAttention',
    ),
}
#: Of these, those that work on maps,
MAPS = ('DisentangledNonLocal2d', 'NonLocal2d', 'ContextBlock')
#: and those on tokens that come without height and width, perhaps with other
#: keys than queries. The rest get tokens with both.
BARE_TOKENS = ('MultiheadAttention', 'torch.nn.MultiheadAttention')

# Arguments of a target.
_SET_BY_THE_PLACE = (
    'in_channels',
    'out_channels',
    'stride',
    'residual',
    'embed_dims',
    'batch_first',
)


class Rule:
    """One of the rules of :func:`swap_attention`, checked.

    Args:
        rule (dict): With ``source``, ``target`` and, perhaps, ``where``.

    Raises:
        ValueError: It is not well-formed.
    """

    def __init__(self, rule: dict) -> None:
        rule = _checked(rule)
        self.source = _find_source(rule['source'])
        self.target = rule['target']
        self.where = rule.get('where', '*')
        self.used = False

    def matches(self, name: str, module: nn.Module) -> bool:
        if not fnmatchcase(name, self.where):
            return False
        if self.source == 'any':
            return kind_of(type(module)) is not None
        if isinstance(self.source, str):
            return has_name(type(module), *SOURCES[self.source])
        return isinstance(module, self.source)


def has_name(cls: type, *names: str) -> bool:
    """Tell whether a class, or one it inherits from, has such a name."""
    return any(
        f'{base.__module__}.{base.__qualname__}' in names
        for base in cls.__mro__
    )


def kind_of(cls: type) -> str | None:
    """Find the key of SOURCES that tells how a class is called."""
    for kind, names in SOURCES.items():
        if has_name(cls, *names):
            return kind
    return None


def _checked(rule: dict) -> dict:
    if isinstance(rule, dict):
        rule = {key: rule[key] for key in rule if key != '_scope_'}
    keys = {'source', 'target', 'where'}
    if not isinstance(rule, dict) or not (
        {'source', 'target'} <= rule.keys() <= keys
    ):
        raise ValueError(
            'rules is a list of dicts; each has the keys source and target, '
            f"and may have 'where', got {rule!r}"
        )
    if not isinstance(rule['target'], dict):
        raise ValueError(
            'target must be the config of a layer, such as '
            f"dict(type='mmea.ExternalAttention2d'), got {rule['target']!r}"
        )
    if not isinstance(rule.get('where', ''), str):
        raise ValueError(
            "where must be one pattern, such as 'backbone.*', got "
            f'{rule["where"]!r}; write a rule for each'
        )
    for name in _SET_BY_THE_PLACE:
        if name in rule['target']:
            raise ValueError(
                f'target.{name} is set by what is replaced; leave it out of '
                f'{rule["target"]}'
            )
    return rule


def _find_source(source: str | type) -> str | type:
    """Return a key of SOURCES or 'any' as it is, else the class."""
    if source in SOURCES or source == 'any':
        return source
    cls: Any = source
    if isinstance(source, str):
        try:
            cls = get_object_from_string(source)
        except ImportError:
            cls = None
    if not inspect.isclass(cls) or kind_of(cls) is None:
        raise ValueError(
            f'{source=} is unknown; choose any, {", ".join(SOURCES)}, '
            'or a subclass of one of these'
        )
    return cls
