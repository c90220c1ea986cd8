"""Members of the family as a command line and a config name them."""

import copy
import inspect
import re
from collections.abc import Iterable
from typing import Any

from mmengine.config import Config, DictAction

from mmea import models
from mmea.errors import UserError
from mmea.layers import AttentionBlock2d
from mmea.models.build_attention import without_defaults
from mmea.swap import wrap_in_swap

__all__ = [
    'CONTROL',
    'NONE',
    'all_members',
    'config_with',
    'host_of',
    'parse_member',
    'parse_members',
]

#: The host without attention.
NONE = 'none'
#: External attention without what it exchanges between pixels.
CONTROL = 'control'
#: What every member takes; kept when another takes the place.
_COMMON = ('norm_cfg', 'act_cfg', 'zero_init', 'with_cp')
# Between arguments, not between the numbers of one in brackets.
_COMMA = re.compile(r',(?![^\[(]*[\])])')


def all_members() -> list[str]:
    """Names of the registered layers on maps, without the prefix."""
    return sorted(
        name
        for name, part in vars(models).items()
        if inspect.isclass(part) and issubclass(part, AttentionBlock2d)
    )


def parse_member(text: str) -> dict | None:
    """Read a member's config from ``NAME`` or ``NAME:KEY=VALUE,...``.

    Args:
        text (str): Such as ``ExternalAttention2d:num_slots=32``; ``mmea.`` may
            stand before the name. ``none`` is no attention, ``control``
            external attention with the softmax over slots alone: each pixel
            by itself, with the same parameters.

    Returns:
        dict | None: ``dict(type='mmea.ExternalAttention2d', num_slots=32)``.

    Raises:
        UserError: No such member, or an argument that it does not take.
    """
    name, _, arguments = text.partition(':')
    if name == NONE:
        if arguments:
            raise UserError(f'{text!r}: {NONE} takes no arguments')
        return None
    member: dict[str, Any] = {}
    if name == CONTROL:
        name = 'ExternalAttention2d'
        member['over_tokens'] = False
    member = dict(type=f'mmea.{name.removeprefix("mmea.")}', **member)
    fixed = set(member)
    for argument in filter(None, _COMMA.split(arguments)):
        key, equals, value = argument.partition('=')
        if not equals:
            raise UserError(
                f'{argument!r} in the member {text!r} is not KEY=VALUE; write '
                'such as ExternalAttention2d:num_slots=32'
            )
        if key in fixed:
            raise UserError(
                f'{key} is what makes {text.partition(":")[0]!r} a member of '
                'its own; leave it out, or name another member'
            )
        if key in member:
            raise UserError(f'{key} is twice in the member {text!r}')
        member[key] = DictAction._parse_iterable(value)
    if name.removeprefix('mmea.') not in all_members():
        raise UserError(
            f'no member {name!r}: choose among {NONE}, {CONTROL}, '
            f'{", ".join(all_members())}'
        )
    return member


def parse_members(texts: Iterable[str]) -> dict[str, dict | None]:
    """Read several members by :func:`parse_member`.

    Raises:
        UserError: One is wrong, or two are the same.
    """
    members: dict[str, dict | None] = {}
    for text in texts:
        member = parse_member(text)
        for other, there in members.items():
            if _as_built(there) == _as_built(member):
                raise UserError(f'the members {other!r} and {text!r} are one')
        members[text] = member
    return members


def config_with(cfg: Config, member: dict | None) -> Config:
    """Put a member into every place of a config that names an attention.

    What every member takes (``norm_cfg``, ``act_cfg``, ``zero_init``,
    ``with_cp``) stays as the config has it. A config without any
    ``attention=dict(...)`` gets the swap of :mod:`mmea.swap` instead.

    Args:
        cfg (Config): It is not changed.
        member (dict | None): Of :func:`parse_member`.

    Raises:
        UserError: There is no ``attention``, and None is asked for or the
            config swaps already.
    """
    cfg = copy.deepcopy(cfg)
    if _replace(cfg.model, member):
        return cfg
    if member is None:
        raise UserError(
            f'{cfg.filename} has no attention=dict(...) to leave out; the '
            f'member {NONE!r} needs a config with one, such as '
            'ea_fpn_ade20k.py'
        )
    wrap_in_swap(cfg, member)
    return cfg


def host_of(cfg: Config) -> dict:
    """Return the config of the model without what the members replace."""
    host = copy.deepcopy(cfg.model)
    _replace(host, None)
    return host


def _as_built(member: dict | None) -> dict | None:
    """Leave out defaults, but of what a config may say otherwise."""
    if member is None:
        return None
    common = {k: v for k, v in member.items() if k in _COMMON}
    return {**without_defaults(member), **common}


def _replace(cfg: Any, member: dict | None) -> int:
    if isinstance(cfg, (list, tuple)):
        return sum(_replace(value, member) for value in cfg)
    if not isinstance(cfg, dict):
        return 0
    count = 0
    for key, value in cfg.items():
        if key == 'attention' and isinstance(value, dict) and 'type' in value:
            common = {k: value[k] for k in _COMMON if k in value}
            cfg[key] = member and {**common, **member}
            count += 1
        else:
            count += _replace(value, member)
    return count
