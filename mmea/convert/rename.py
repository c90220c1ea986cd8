"""Rules for names: what they match, and where in a checkpoint.

A rule is a pair of names, theirs and ours. A ``*`` stands for a run of
characters without a dot, the same in both; a dot at the end for all that
follows.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

__all__ = ['find_places', 'group', 'match', 'rename', 'under']


def under(old: str, new: str, rules: Mapping[str, str]) -> dict[str, str]:
    """Put the rules of a part behind the prefixes of its place."""
    return {old + theirs: new + ours for theirs, ours in rules.items()}


def rename(name: str, rules: Mapping[str, str]) -> str | None:
    """Rename by the first rule that matches; None if there is none."""
    for old, new in rules.items():
        pattern, template = _compile(old, new)
        if found := pattern.fullmatch(name):
            return found.expand(template)
    return None


@functools.cache
def _compile(old: str, new: str) -> tuple[re.Pattern, str]:
    tail = '*' if old.endswith('.') else ''
    pattern = re.escape(old).replace(r'\*', r'([^.]+)')
    head, *rest = (new + tail).split('*')
    template = head + ''.join(
        rf'\g<{i}>{text}' for i, text in enumerate(rest, 1)
    )
    return re.compile(pattern + tail.replace('*', '(.+)')), template


def match(
    names: Iterable[str], rules: Mapping[str, str], prefix: str = ''
) -> dict[str, tuple[str, str]]:
    """Find the names of a part, and rename them.

    Args:
        names (Iterable[str]): Of a whole state_dict.
        rules (Mapping[str, str]): Of the part.
        prefix (str): Of the part, or a pattern of prefixes in the way of
            :mod:`fnmatch`.

    Returns:
        dict[str, tuple[str, str]]: The prefix of each name that a rule
        matches, the shortest, and our name behind it.
    """
    if prefix and prefix[-1] not in '.*':
        prefix += '.'
    found = {}
    for name in names:
        for dot in re.finditer(r'^|\.', name):
            place, rest = name[: dot.end()], name[dot.end() :]
            if fnmatchcase(place, prefix) and (new := rename(rest, rules)):
                found[name] = place, new
                break
    return found


def find_places(names: Iterable[str], rules: Mapping[str, str]) -> list[str]:
    """Find the prefixes behind which the rules match every name.

    A ``*`` takes the place of numbers, if they all are such prefixes.
    """
    names = list(names)
    found = match(names, rules, '*')
    places = dict.fromkeys(place for place, _ in found.values())
    mixed = {
        place
        for place in places
        for name in names
        if name.startswith(place) and found.get(name, [None])[0] != place
    }
    patterns = {p: re.sub(r'\b\d+(?=\.)', '*', p) for p in places}
    spoilt = {patterns[place] for place in mixed}
    return list(
        dict.fromkeys(
            place if patterns[place] in spoilt else patterns[place]
            for place in places
            if place not in mixed
        )
    )


def group(names: Iterable[str], most: int = 8) -> str:
    """Say in short which names these are: 'head.fc.* (2), norm.weight'."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault('.'.join(name.split('.')[:2]), []).append(name)
    words = [
        found[0] if len(found) == 1 else f'{part}.* ({len(found)})'
        for part, found in parts.items()
    ]
    rest = len(words) - most
    return ', '.join(words[:most]) + (f' and {rest} more' * (rest > 0))
