"""Checkpoints are read without executing code from the file.

torch's restricted unpickler (``weights_only=True``) refuses what it does not
know. An mmengine checkpoint holds more than weights: the history of its log
and the state of its schedulers, whose methods are pickled as ``getattr``
calls. Upstream either fails on that, or allows ``getattr`` itself and falls
back to the full unpickler; here a function that knows nothing but those
methods takes its place, so that resuming works too.
"""

import hashlib
import os
import re
import socket
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import nn

from mmea.errors import UserError

__all__ = [
    'check_checkpoint',
    'download',
    'find_checkpoint',
    'load_checkpoint',
    'use_safe_loading',
]


# The attributes that checkpoints of mmengine name, and no others.
_ATTRIBUTES = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _attribute(owner: type, name: str) -> Any:
    """Stand for ``getattr`` in a checkpoint."""
    if name in _ATTRIBUTES.get(owner, ()):
        return getattr(owner, name)
    raise UserError(
        f'the checkpoint asks for the attribute {name!r} of {owner}, which '
        'no checkpoint of mmengine needs; it was not loaded'
    )


def _safe_globals() -> list:
    core = np._core if hasattr(np, '_core') else np.core
    return [
        *_ATTRIBUTES,
        (_attribute, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *(
            type(np.dtype(kind))
            for kind in (bool, 'i4', 'i8', 'f4', 'f8', 'U')
        ),
        *(
            (function, f'{module}.{function.__name__}')
            # numpy 1 and 2 write their own name of the same module
            for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
            for function in (
                core.multiarray._reconstruct,
                core.multiarray.scalar,
            )
        ),
    ]


def load_checkpoint(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint with the restricted unpickler.

    Args:
        filename (str): Path of the file, or its http(s) address.
        map_location: As of :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        UserError: No such file or no answer, no checkpoint, or one that holds
            more than tensors, numbers, text and mmengine's log history.
    """
    if re.match('https?://', filename):
        return load_checkpoint(str(download(filename)), map_location)
    path = Path(filename).expanduser()
    if path.suffix == '.safetensors' and path.is_file():
        return _load_safetensors(path)
    if not path.is_file():
        raise UserError(f'no such checkpoint: {filename}')
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            checkpoint = torch.load(
                path, map_location=map_location, weights_only=True
            )
    except UserError:
        raise
    except Exception as error:  # unpickling, zip, end of file, ...
        # torch's message is a page; the name of what it refused is in it.
        refused = re.search(r'GLOBAL (\S+)', str(error))
        reason = (
            f'it asks for {refused[1]}, which mmea does not let in, and '
            'nothing in it was executed; if you trust it, give that to '
            'torch.serialization.add_safe_globals() in a module that '
            'custom_imports names'
            if refused
            else 'it is damaged, or no checkpoint of torch'
        )
        raise UserError(
            f'cannot load the checkpoint {filename}: {reason}'
        ) from error
    if isinstance(checkpoint, dict):
        # Runner.resume() executes this text as a config.
        checkpoint.get('meta', {}).pop('config', None)
    return checkpoint


def download(url: str) -> Path:
    """Fetch a file once, into the cache of torch's hub.

    Args:
        url (str): Its http(s) address. Eight hexadecimal digits or more
            between the last ``-`` and the suffix are the start of its sha256,
            as torchvision has it, and are checked.

    Returns:
        Path: The file on this disk.

    Raises:
        UserError: No network, no such file, no room, or another sha256.
    """
    name = Path(urlsplit(url).path).name
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    sha = re.search(r'-([0-9a-f]{8,})\.', name)
    if not sha:  # many files of the world are called model.safetensors
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    path = folder / name
    if path.is_file():
        return path
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), sha and sha[1])
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f'cannot download {url}: {error}; download it elsewhere and name '
            f'the file in its place, or put it into {folder}'
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def _load_safetensors(path: Path) -> dict:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f'{path} needs the package safetensors: pip install safetensors'
        ) from error
    try:
        return load_file(path)
    except Exception as error:
        raise UserError(
            f'cannot load the checkpoint {path}: it is damaged'
        ) from error


def use_safe_loading() -> None:
    """Make mmengine load every checkpoint without executing code from it.

    Local files go through :func:`load_checkpoint`; for downloads torch is
    told to accept nothing but ``weights_only``. The tools of mmea call this;
    call it before ``init_model`` or ``init_detector`` in a script of your
    own.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    CheckpointLoader.register_scheme('', loader=_load_from_local, force=True)


def _load_from_local(filename: str, map_location: Any = None) -> dict:
    return load_checkpoint(filename, map_location)


def find_checkpoint(work_dir: str) -> str | None:
    """Find the latest complete checkpoint of a work dir.

    mmengine writes a checkpoint in place, then its name to
    ``last_checkpoint``. A run that is killed meanwhile leaves half a file or
    no name; then the newest complete checkpoint of the folder is taken.

    Args:
        work_dir (str): Folder of a training.

    Returns:
        str | None: Path of the checkpoint, None if there is none.
    """
    named = find_latest_checkpoint(work_dir)
    if named and _is_complete(Path(named)):
        return named
    others = [
        path
        for path in Path(work_dir).glob('*.pth')
        # Not the best_*.pth: they have no state of the optimiser.
        if re.fullmatch(r'(epoch|iter)_\d+', path.stem) and _is_complete(path)
    ]
    if not others:
        return None
    latest = max(others, key=lambda path: path.stat().st_mtime)
    print(
        f'last_checkpoint in {work_dir} names no complete file '
        f'({named or "none"}): taking {latest}'
    )
    return str(latest)


def _is_complete(path: Path) -> bool:
    # torch writes a zip archive, whose directory comes last. A strategy such
    # as DeepSpeed's makes a folder.
    return path.is_dir() or zipfile.is_zipfile(path)


def check_checkpoint(
    model: nn.Module, filename: str, *, partial: bool
) -> None:
    """Raise unless a checkpoint fits a model.

    mmengine loads what fits and logs the rest, so that a checkpoint of
    another architecture leaves a random model behind.

    Args:
        model (nn.Module): The built model.
        filename (str): Path of a local checkpoint.
        partial (bool): Accept one that fits in part, for fine-tuning.

    Raises:
        UserError: Parameters are missing or of another shape; with
            ``partial``, nothing fits at all.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module  # type: ignore[assignment]
    checkpoint = load_checkpoint(filename, 'cpu')
    state = {
        name.removeprefix('module.'): value
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    want = model.state_dict()
    missing = [name for name in want if name not in state]
    differ = [
        name
        for name in want
        if name in state
        and getattr(state[name], 'shape', None) != want[name].shape
    ]
    bad = len(missing) + len(differ)
    if not bad or (partial and bad < len(want)):
        return
    found = []
    if missing:
        found.append(
            f'{len(missing)} of {len(want)} entries are missing '
            f'(such as {missing[0]})'
        )
    if differ:
        name = differ[0]
        found.append(
            f'{len(differ)} differ in shape (such as {name}: '
            f'{tuple(state[name].shape)} in the file, '
            f'{tuple(want[name].shape)} in the model)'
        )
    raise UserError(
        f'the checkpoint {filename} is of another architecture: '
        f'{" and ".join(found)}; use the config that it was trained with'
    )
