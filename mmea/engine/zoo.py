"""Trained models by their names."""

import os
import re
from pathlib import Path
from urllib.error import URLError

from torch.hub import download_url_to_file

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
    if re.match('https?://', place):
        return _fetch(place.rstrip('/'), name)
    folder = Path(place, name)
    return folder if (folder / f'{name}.safetensors').is_file() else None


def explain_zoo() -> str:
    """Say which models there are, or where to get them."""
    place = _place()
    if re.match('https?://', place):
        return f'the zoo at MMEA_ZOO={place} has no such model'
    names = sorted(
        path.parent.name for path in Path(place).glob('*/config.py')
    )
    if names:
        return f'the zoo has {", ".join(names)}'
    return (
        f'there is no zoo in {place}: name the folder or the address of one, '
        "such as that of mmea's repository, in the variable MMEA_ZOO"
    )


def _place() -> str:
    checkout = Path(mmea.__file__).parents[1] / 'zoo'
    return os.environ.get('MMEA_ZOO') or str(checkout)


def _fetch(address: str, name: str) -> Path | None:
    folder = cache_folder() / 'zoo' / name
    # The config last: a folder that has it is whole.
    for file in (f'{name}.safetensors', 'config.py'):
        if (folder / file).is_file():
            continue
        url = f'{address}/{name}/{file}'
        try:
            with whole(folder / file) as part:
                download_url_to_file(url, str(part))
        except URLError as error:
            if getattr(error, 'code', None) == 404:
                return None
            raise UserError(
                f'cannot fetch {url}: {error.reason}; see MMEA_ZOO'
            ) from error
        except OSError as error:
            raise UserError(f'cannot write {folder}: {error}') from error
    return folder
