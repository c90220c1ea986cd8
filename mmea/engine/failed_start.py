"""A training that never began leaves nothing behind."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['clean_after_failed_start']


@contextmanager
def clean_after_failed_start(work_dir: str) -> Iterator[None]:
    """Remove what a start has written, if it ends before the first log.

    That are its folder of logs and its copy of the config, and the work dir
    where it was made for it. What was there before stays.

    Args:
        work_dir (str): Of the training.
    """
    folder = Path(work_dir).absolute()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    before = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        yield
    except BaseException:
        if folder.is_dir():
            new = [path for path in folder.iterdir() if path not in before]
            if not any(map(_has_begun, new)):
                for path in new:
                    _remove(path)
                for path in made:
                    if any(path.iterdir()):
                        break
                    path.rmdir()
        raise


def _has_begun(path: Path) -> bool:
    scalars = path / 'vis_data' / 'scalars.json'
    logged = scalars.is_file() and scalars.stat().st_size > 0
    return logged or path.suffix == '.pth' or path.name == 'last_checkpoint'


def _remove(path: Path) -> None:
    if re.fullmatch(r'\d{8}_\d{6}', path.name):
        shutil.rmtree(path)
    elif path.suffix == '.py' or path.name == '.lock':
        path.unlink()
