"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['whole', 'write_text']


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Give a name to write to, which takes the place of a file at the end.

    Whatever ends the block early, a full disk or Ctrl-C, leaves what was there
    before.

    Args:
        path (str | os.PathLike): Of the file; its folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.stem}.part{path.suffix}')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file that ends with its last line."""
    with whole(path) as part:
        part.write_text(text.rstrip() + '\n', encoding='utf-8')
