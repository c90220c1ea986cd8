"""Published weights for the backbone of a model, whatever their names are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .rename import group

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['Fitted', 'fit']

# Behind the last stage: mmseg's MobileNetV2 ends before its conv2.
_HEADS = ('head.', 'fc.', 'classifier.', 'conv2.')


class Fitted(NamedTuple):
    """What of a file a net takes.

    Attributes:
        state (dict[str, Tensor]): Under the net's names.
        source (str | None): Whose names were converted, if they were.
        left (list[str]): Entries of the file that the net has no place for.
        missing (list[str]): Entries of the net that the file does not have.
    """

    state: dict[str, Tensor]
    source: str | None
    left: list[str]
    missing: list[str]


def fit(
    candidates: Iterable[tuple[str | None, Mapping[str, Tensor]]],
    want: Mapping[str, Tensor],
) -> Fitted:
    """Choose the names that fit a net best, and see that they do fit.

    Args:
        candidates (Iterable): Pairs of a source (None: the names as they are
            in the file) and the state_dict that it makes of the file. Where
            names begin with ``backbone.``, only these are the backbone.
        want (Mapping[str, Tensor]): The state_dict of the net.

    Returns:
        Fitted: May lack parts of the net that the file has nothing like, such
        as an attention that was added, and leaves out a classifier's head.

    Raises:
        ValueError: The file is of another net: in its width, its depth, or
            its parts.
    """
    source, state, outside = max(
        ((source, *_backbone_of(state)) for source, state in candidates),
        key=lambda found: len(found[1].keys() & want.keys()),
    )
    extra = [name for name in state if name not in want]
    missing = [name for name in want if name not in state]
    differ = [
        name
        for name, value in state.items()
        if name in want and value.shape != want[name].shape
    ]
    if differ:
        name = differ[0]
        raise ValueError(
            f'{len(differ)} entries have another shape, such as {name}: '
            f'{tuple(state[name].shape)} in the file, '
            f'{tuple(want[name].shape)} in the model'
        )
    strange = [name for name in extra if not name.startswith(_HEADS)]
    if strange:
        raise ValueError(f'the model has no {group(strange)}')
    # A part of which the file has others, such as one more block of a stage.
    kinds = set(map(_kind, state))
    short = [name for name in missing if _kind(name) in kinds]
    if short or 2 * len(missing) > len(want):
        raise ValueError(f'the file has no {group(short or missing)}')
    for name in extra:
        del state[name]
    return Fitted(state, source, extra + outside, missing)


def _backbone_of(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[str]]:
    """Split into the backbone, its prefix removed, and the other names."""
    prefix = 'backbone.'
    if not any(name.startswith(prefix) for name in state):
        return dict(state), []
    own = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix)
    }
    return own, [name for name in state if not name.startswith(prefix)]


def _kind(name: str) -> str:
    return re.sub(r'\d+', '*', name)
