"""Trained models by their names."""

import hashlib
import os
import re
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rich.progress import wrap_file

import mmea
from mmea.errors import UserError
from mmea.files import cache_folder, whole

__all__ = ['explain_zoo', 'find_model']


def find_model(name: str) -> Path | None:
    """Find a model of the zoo.

    The zoo is the folder or the http(s) address of the variable ``MMEA_ZOO``,
    or else the folder ``zoo`` of the checkout. It holds for each model
    ``NAME/NAME.safetensors`` and ``NAME/config.py``. What an address has is
    kept in mmea's cache.

    Args:
        name (str): Of the model.

    Returns:
        Path | None: Its folder, or None, if there is none of this name.

    Raises:
        UserError: The address cannot be reached, or the cache not be written.
    """
    if not re.fullmatch(r'\w[\w.+-]*', name) or name.endswith('.py'):
        return None
    if f'{name}.py' in mmea.list_configs():
        return None
    place = _place()
    if _is_address(place):
        return _fetch(place.rstrip('/'), name)
    folder = Path(place, name)
    return folder if all(map(Path.is_file, _files_of(folder))) else None


def explain_zoo() -> str:
    """Say which models there are, or where to get them."""
    place = _place()
    if _is_address(place):
        return f'the zoo at MMEA_ZOO={place} has no such model'
    names = sorted(
        folder.name
        for folder in Path(place).glob('*/')
        if all(map(Path.is_file, _files_of(folder)))
    )
    if names:
        return f'the zoo has {", ".join(names)}'
    return (
        f'there is no zoo in {place}: name the folder or the address of one, '
        "such as that of mmea's repository, in the variable MMEA_ZOO"
    )


def _place() -> str:
    checkout = Path(mmea.__file__).parents[1] / 'zoo'
    return os.path.expanduser(os.environ.get('MMEA_ZOO') or str(checkout))


def _is_address(place: str) -> bool:
    return re.match('https?://', place, re.IGNORECASE) is not None


def _files_of(folder: Path) -> tuple[Path, Path]:
    return folder / f'{folder.name}.safetensors', folder / 'config.py'


def _fetch(address: str, name: str) -> Path | None:
    # Two zoos may have models of one name.
    own = hashlib.sha256(address.encode()).hexdigest()[:8]
    folder = cache_folder() / 'zoo' / own / name
    for file in _files_of(folder):
        if file.is_file():
            continue
        url = f'{address}/{name}/{file.name}'
        try:
            with whole(file) as part:
                _download(url, part)
        except HTTPError as error:
            if error.code == 404:
                return None
            raise UserError(
                f'cannot fetch {url}: {error}; see MMEA_ZOO'
            ) from error
        except (
            URLError,
            HTTPException,
            ConnectionError,
            TimeoutError,
            ValueError,
        ) as error:
            reason = getattr(error, 'reason', error)
            raise UserError(
                f'cannot fetch {url}: {reason}; see MMEA_ZOO'
            ) from error
        except OSError as error:
            raise UserError(f'cannot write {folder}: {error}') from error
    return folder


def _download(url: str, path: Path) -> None:
    """Fetch a file, and no other: neither half of it nor a page to log in."""
    with urlopen(url, timeout=30) as answer, path.open('wb') as file:
        if answer.headers.get_content_type() == 'text/html':
            raise ValueError('it is a web page')
        length = int(answer.headers.get('Content-Length') or 0)
        with wrap_file(answer, length, description=path.name) as reader:
            shutil.copyfileobj(reader, file)
        if length and file.tell() != length:
            raise ConnectionError(
                f'it broke off after {file.tell()} of {length} bytes'
            )
