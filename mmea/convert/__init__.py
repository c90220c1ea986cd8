"""Published state-dict names to ours."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .fit import Fitted, fit
from .rename import find_places, group, match
from .shapes import reshape
from .sources import BACKBONES, SOURCES, Source, list_sources

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    'BACKBONES',
    'SOURCES',
    'Fitted',
    'Source',
    'convert',
    'fit',
    'list_sources',
    'untouched',
    'unwrap',
]


def convert(
    state_dict: Mapping[str, Tensor], source: str, prefix: str = ''
) -> dict[str, Tensor]:
    """Rename and reshape a published state_dict, or parts of one.

    Args:
        state_dict (Mapping[str, Tensor]): Under its published names. One
            inside of a checkpoint, under ``state_dict`` or ``model``, is
            found; a ``module.`` prefix of DataParallel is dropped.
        source (str): What it is, a key of :data:`SOURCES`; those tell too
            which layer or net takes the result, and with which arguments.
        prefix (str): Where the source is, such as 'decode_head.nl_block.':
            names under it are converted, all others are kept
            (:func:`untouched` lists them). A pattern, such as
            'layers.*.attn.', means many parts: ``*`` is any text,
            ``[01]`` one of these characters. Default: '', the whole
            state_dict.

    Returns:
        dict[str, Tensor]: Under our names. Memories are (S, C),
        ``pair_weight`` is (2, C'), tables are as the layer has them.

    Raises:
        ValueError: An unknown ``source``; no name of it under ``prefix``, or
            one that it does not have; two names that become the same; a
            value of another shape, or none.
    """
    state = unwrap(state_dict)
    found = _find(state, source, prefix)
    converted: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name not in found:
            converted[name] = value
            continue
        place, ours = found[name]
        try:
            parts.setdefault(place, {})[ours] = reshape(ours, value)
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f'{name!r} of shape {tuple(value.shape)} is not of {source!r}'
            ) from error
    finish = SOURCES[source].finish or dict
    for place, part in parts.items():
        try:
            part = finish(part)
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f'the shapes under {place!r} are not of {source!r}: {error}'
            ) from error
        converted |= {place + name: value for name, value in part.items()}
    return converted


def untouched(
    state_dict: Mapping[str, Tensor], source: str, prefix: str = ''
) -> list[str]:
    """List the names that :func:`convert` keeps as they are.

    Args:
        state_dict, source, prefix: As of :func:`convert`.

    Returns:
        list[str]: Those outside of ``prefix``.

    Raises:
        ValueError: As :func:`convert`, shapes apart.
    """
    state = unwrap(state_dict)
    found = _find(state, source, prefix)
    return [name for name in state if name not in found]


def unwrap(state_dict: Mapping) -> dict[str, Tensor]:
    """Return the state_dict itself, without DataParallel's prefix.

    Raises:
        ValueError: It is no mapping of names to tensors.
    """
    from torch import Tensor

    for key in ('state_dict', 'model'):
        if isinstance(state_dict, Mapping):
            inner = state_dict.get(key)
            state_dict = inner if isinstance(inner, Mapping) else state_dict
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f'state_dict must map names to tensors, got {type(state_dict)}'
        )
    state = {}
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f'state_dict must map names to tensors, but {key!r} is a '
                f'{type(value).__name__}; give what holds the tensors only'
            )
        name = key.removeprefix('module.')
        if name in state:
            raise ValueError(
                f'{name!r} is there with and without module.; remove one'
            )
        state[name] = value
    return state


def _find(
    state: Mapping[str, Tensor], source: str, prefix: str
) -> dict[str, tuple[str, str]]:
    """Find what to convert, as :func:`match`, or say what is wrong."""
    if source not in SOURCES:
        raise ValueError(
            f'{source=} is unknown; choose from {", ".join(SOURCES)}'
        )
    rules = SOURCES[source].rules
    found = match(state, rules, prefix)
    if prefix and not found:
        raise ValueError(
            f'{prefix=} has no name of {source!r}; '
            + _suggest(state, source, prefix)
        )
    taken: dict[str, str] = {}
    for name in state:
        new = ''.join(found.get(name, name))
        if (other := taken.setdefault(new, name)) != name:
            raise ValueError(
                f'{other!r} and {name!r} would both be {new!r}; remove one'
            )
    places = tuple({place for place, _ in found.values()}) or ''
    strange = [
        name for name in state if name not in found and name.startswith(places)
    ]
    if strange:
        raise ValueError(
            f'{strange[0]!r} is no name of {source!r} (of {len(strange)} '
            f'such names: {group(strange)}); '
            + _suggest(state, source, prefix)
        )
    return found


def _suggest(state: Mapping[str, Tensor], source: str, prefix: str) -> str:
    places = [p for p in find_places(state, SOURCES[source].rules) if p]
    if places and prefix not in places:
        few = ', '.join(map(repr, places[:5])) + ', ...' * (len(places) > 5)
        return f'it is under the prefix {few}'
    if not prefix:
        return (
            f'choose another source ({", ".join(SOURCES)}) or remove the entry'
        )
    starts = {
        name[: i + 1]
        for name in state
        for i, letter in enumerate(name)
        if letter == '.'
    }
    close = get_close_matches(prefix, sorted(starts))
    names = ', '.join(list(SOURCES[source].rules)[:4])
    return (f'close prefixes: {", ".join(close)}; ' if close else '') + (
        f'names of {source!r} begin with {names}, ...'
    )
