"""What a new config consists of, and how images are split for it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmea.errors import UserError
from mmea.files import write_text

from .summary import Summary

__all__ = ['Project', 'split_at_random']


@dataclass
class Project:
    """A config, the files that belong to it, and what was found.

    Attributes:
        files (dict[Path, str]): Texts to write: the config, lists of images
            or annotation files.
        summaries (list[Summary]): One of each split.
        warnings (list[str]): What was left out, and what looks odd.
        copies (Callable[[], None] | None): Writes copies of label images,
            if there are any to be.
    """

    files: dict[Path, str] = field(default_factory=dict)
    summaries: list[Summary] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    copies: Callable[[], None] | None = None

    def write(self) -> None:
        """Write all files, those there are replaced.

        Raises:
            UserError: One cannot be written.
        """
        what: Path | str = ''
        try:
            for what, text in self.files.items():
                write_text(what, text)
            what = 'the copies of the masks'
            if self.copies:
                self.copies()
        except OSError as error:
            raise UserError(
                f'cannot write {what}: {error.strerror or error}'
            ) from error


def split_at_random(
    names: Sequence[str], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Split names in two, in the same way for the same names and seed.

    Args:
        names (Sequence[str]): In any order.
        share (float): Of the second part, which has one name or more.
        seed (int): Of the choice.

    Returns:
        tuple[list[str], list[str]]: Both sorted.

    Raises:
        UserError: There are fewer than two names.
    """
    if len(names) < 2:
        raise UserError(
            f'{len(names)} labelled image cannot be split into training and '
            'validation; label two or more'
        )
    names = sorted(names)
    number = min(max(round(share * len(names)), 1), len(names) - 1)
    second = set(random.Random(seed).sample(names, number))
    return [n for n in names if n not in second], sorted(second)
