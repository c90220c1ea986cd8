"""One process at a time works in a folder."""

import fcntl
from pathlib import Path
from typing import IO

from mmea.errors import UserError

__all__ = ['lock_folder']


def lock_folder(folder: str | Path, what: str) -> IO[str]:
    """Hold a folder until the file that comes back is closed.

    The lock is the system's: it goes with the process, however that ends, so
    there is none to be cleaned up; and it is not handed on to the workers of
    data loaders, which may live longer. Within one process it is no hindrance.

    Args:
        folder (str | Path): It has to be there.
        what (str): Who holds it, for the error of the second: 'training'.

    Returns:
        IO[str]: Keep it, and close it in the end.

    Raises:
        UserError: Another process holds the folder, or it cannot be written.
    """
    try:
        lock = open(Path(folder, '.lock'), 'w')
    except OSError as error:
        raise UserError(
            f'cannot write to {folder}: {error.strerror}; choose another '
            'folder'
        ) from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise UserError(
            f'another {what} works in {folder}; wait for its end, or choose '
            'another folder'
        ) from error
    return lock
