"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmea.errors import UserError

__all__ = ['cache_folder', 'make_folder', 'whole', 'write_text']


def cache_folder() -> Path:
    """Name the folder of what mmea can find or fetch again.

    Returns:
        Path: ``mmea`` in that of ``XDG_CACHE_HOME``, or in ``~/.cache``.
    """
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(cache).expanduser() / 'mmea'


def make_folder(folder: Path, option: str) -> None:
    """Make the folder that an option names.

    Args:
        folder (Path): With those above it.
        option (str): Such as ``'--out'``, for the error.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot make the folder {option} {folder}: {error.strerror}'
        ) from error


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
    # Hidden and of this process: no name that somebody's file has.
    part = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file that ends with its last line."""
    with whole(path) as part:
        part.write_text(text.rstrip() + '\n', encoding='utf-8')
