"""Checkpoints are read without executing code from the file.

Whoever asks for one, a command, a config or upstream, gets it from
:func:`load_checkpoint`: torch's restricted unpickler (``weights_only=True``),
told by :mod:`.safe_pickle` what an mmengine checkpoint holds beside weights,
the history of its log and the state of its schedulers. Upstream either fails
on that, or falls back to the full unpickler.
"""

import hashlib
import os
import re
import socket
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from mmea import safe_loading
from mmea.engine.safe_pickle import Refused, safe_globals, settle
from mmea.errors import UserError

__all__ = [
    'check_checkpoint',
    'download',
    'find_checkpoint',
    'load_checkpoint',
    'pick_checkpoint',
    'pick_weights',
    'resolve_resume',
    'use_safe_loading',
]


def load_checkpoint(
    filename: str | os.PathLike, map_location: Any = None
) -> dict:
    """Load a checkpoint with the restricted unpickler.

    What upstream would execute of it, the text of configs, is left out.

    Args:
        filename (str | os.PathLike): Path of the file, or its http(s)
            address.
        map_location: As of :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        UserError: No such file or no answer, no checkpoint, or one that holds
            more than tensors, numbers, text and mmengine's log history.
    """
    if re.match('https?://', str(filename)):
        return load_checkpoint(download(str(filename)), map_location)
    path = Path(filename).expanduser()
    if path.is_dir():
        raise UserError(f'the checkpoint {filename} is a folder; name a file')
    if not path.is_file():
        raise UserError(f'no such checkpoint: {filename}')
    if path.suffix == '.safetensors':
        return _load_safetensors(path)
    _check_size(path)
    try:
        with torch.serialization.safe_globals(safe_globals()):
            checkpoint = torch.load(
                path, map_location=map_location, weights_only=True
            )
        checkpoint = settle(checkpoint)
    except Refused as error:
        raise UserError(
            f'cannot load the checkpoint {filename}: it asks for {error}, '
            'which mmea does not let in; nothing in it was executed'
        ) from error
    except Exception as error:  # unpickling, zip, end of file, ...
        # torch's message is a page; the name of what it refused is in it.
        refused = re.search(r'GLOBAL (\S+)', str(error))
        reason = (
            f'it asks for {refused[1]}, which mmea does not let in; nothing '
            'in it was executed'
            if refused
            else 'it is damaged, or no checkpoint of torch'
        )
        raise UserError(
            f'cannot load the checkpoint {filename}: {reason}'
        ) from error
    _check_form(checkpoint, filename)
    for keys in _EXECUTED:
        _forget(checkpoint, keys)
    return checkpoint


#: Where upstream looks for a config, and executes it: Runner.resume() and the
#: inferencers.
_EXECUTED = (
    ('meta', 'config'),
    ('meta', 'cfg'),
    ('message_hub', 'runtime_info', 'cfg'),
)


def _forget(checkpoint: dict, keys: tuple[str, ...]) -> None:
    *outer, last = keys
    inner: Any = checkpoint
    for key in outer:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        inner.pop(last, None)


def _check_size(path: Path) -> None:
    """Raise if a zip archive would unpack to more than it is.

    torch writes its archives without compression.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return  # torch.load finds what is wrong
    if size > path.stat().st_size:
        raise UserError(
            f'cannot load the checkpoint {path}: it would unpack to '
            f'{size / 1e9:.1f} GB, more than it has; torch does not compress '
            'its files: save it by torch.save() again, if it is yours'
        )


def _check_form(checkpoint: Any, filename: Any) -> None:
    """Raise unless top, meta and state_dict are what the stack expects."""
    found, where = checkpoint, 'it'
    for key in (None, 'meta', 'state_dict'):
        if key is not None:
            if key not in checkpoint:
                continue
            found, where = checkpoint[key], f'its {key!r}'
        if not isinstance(found, dict):
            raise UserError(
                f'cannot load the checkpoint {filename}: {where} is a '
                f'{type(found).__name__} where a dict is expected'
            )
    for name, value in checkpoint.get('state_dict', {}).items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f'cannot load the checkpoint {filename}: the entry {name!r} '
                f"of its 'state_dict' is a {type(value).__name__}, no tensor "
                'with a name'
            )


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
    """Have torch itself refuse code in this process, in whatever it loads.

    ``import mmea`` lets mmengine read checkpoints by :func:`load_checkpoint`
    (see :mod:`mmea.safe_loading`); this is for what goes past mmengine. The
    commands of mmea call it.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    safe_loading.install()


def resolve_resume(cfg: Config, resume: str | None = None) -> None:
    """Decide which checkpoint a training goes on from. In place.

    Args:
        cfg (Config): ``resume`` and ``load_from`` are set. A ``load_from`` of
            the config stays where there is nothing to resume.
        resume (str | None): Of ``--resume``: a path, 'auto' (the latest in the
            work dir), or None, what the config's ``resume`` says.
    """
    if resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, resume
        return
    if not resume and (not cfg.get('resume') or cfg.get('load_from')):
        return
    found = find_checkpoint(cfg.work_dir)
    cfg.resume = found is not None  # or the Runner looks once more
    if found is not None:
        cfg.load_from = found
    elif cfg.get('load_from'):
        print(
            f'No checkpoint in {cfg.work_dir}: starting from {cfg.load_from}'
        )
    else:
        print(f'No checkpoint in {cfg.work_dir}: starting anew')


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
    named = None
    if (last := Path(work_dir, 'last_checkpoint')).is_file():
        named = last.read_text(errors='replace').strip()
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


def pick_checkpoint(work_dir: str) -> str:
    """Find the best checkpoint of a work dir, or else the latest; say which.

    Args:
        work_dir (str): Folder of a training. Its hook's ``save_best`` writes
            ``best_METRIC_iter_N.pth``.

    Returns:
        str: Path of the checkpoint.

    Raises:
        UserError: There is none.
    """
    best = [p for p in Path(work_dir).glob('best_*.pth') if _is_complete(p)]
    if best:
        best.sort(key=lambda path: path.stat().st_mtime)
        found = str(best[-1])
        print(f'Taking the best checkpoint: {found}')
        if best[1:]:
            others = ', '.join(path.name for path in best[:-1])
            print(
                f'It is that of the latest training there; {others} of '
                'others may be better: name one after the config'
            )
        return found
    latest = find_checkpoint(work_dir)
    if latest is None:
        raise UserError(
            f'no checkpoint in {work_dir}: name one after the config, or '
            'train first'
        )
    print(f'Taking the latest checkpoint: {latest}')
    return latest


def pick_weights(cfg: Config) -> str:
    """Find the weights of a config, and say which.

    Args:
        cfg (Config): Of a training; or one that ``mmea publish`` wrote, which
            does not train and has its weights beside it.

    Returns:
        str: Path of what is beside it, or as of :func:`pick_checkpoint`.

    Raises:
        UserError: There is none.
    """
    path = Path(cfg.filename or '')
    beside = list(path.parent.glob('*.safetensors'))
    if len(beside) == 1 and not cfg.get('train_dataloader'):
        print(f'Taking the published weights: {beside[0]}')
        return str(beside[0])
    return pick_checkpoint(cfg.get('work_dir') or f'work_dirs/{path.stem}')


def _is_complete(path: Path) -> bool:
    try:
        # A strategy such as DeepSpeed's makes a folder.
        if path.is_dir():
            return True
        # torch writes a zip archive, whose directory comes last, and a sum of
        # each entry, by which a block that never reached the disk shows.
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def check_checkpoint(
    model: nn.Module,
    filename: str | os.PathLike,
    *,
    partial: bool,
    train_cfg: Mapping | None = None,
) -> None:
    """Raise unless a checkpoint fits a model.

    mmengine loads what fits and logs the rest, so that a checkpoint of
    another architecture leaves a random model behind.

    Args:
        model (nn.Module): The built model.
        filename (str | os.PathLike): Path or address of a checkpoint.
        partial (bool): Accept one that fits in part, for fine-tuning.
        train_cfg (Mapping, optional): Of a training that goes on from it.

    Raises:
        UserError: Parameters are missing or of another shape, with
            ``partial``, nothing fits at all; they are NaN; or a training
            cannot go on from there.
    """
    if Path(filename).is_dir():  # the strategy that wrote it reads it
        return
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module  # type: ignore[assignment]
    checkpoint = load_checkpoint(filename, 'cpu')
    if train_cfg is not None:
        _check_progress(checkpoint, filename, train_cfg)
    state = {
        name.removeprefix('module.'): value
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    want = model.state_dict()
    broken = [
        name
        for name in want
        if isinstance(state.get(name), torch.Tensor)
        and state[name].isnan().any()
    ]
    if broken:
        raise UserError(
            f'the checkpoint {filename} holds NaN in {len(broken)} of '
            f'{len(want)} entries (such as {broken[0]}): the training that '
            'wrote it had failed; take an earlier one'
        )
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


def _check_progress(
    checkpoint: dict, filename: str | os.PathLike, train_cfg: Mapping
) -> None:
    """Raise unless a training can go on from a checkpoint."""
    meta = checkpoint.get('meta', {})
    lacking = [f'meta.{k}' for k in ('epoch', 'iter') if k not in meta]
    lacking += [k for k in ('state_dict', 'optimizer') if k not in checkpoint]
    if lacking:
        raise UserError(
            f'the checkpoint {filename} has no {", ".join(lacking)}: nothing '
            'to resume; start from its weights by load_from'
        )
    for key in ('epoch', 'iter'):
        done = meta[key]
        # A number that numpy has made is one too.
        if not isinstance(done, (int, np.integer)) or done < 0:
            raise UserError(
                f'the checkpoint {filename} has meta.{key}={done!r}, which is '
                f'no number of {key}s done; take another one'
            )
        last = train_cfg.get(f'max_{key}s')
        if last is not None and done > last:
            raise UserError(
                f'the checkpoint {filename} is at {key} {done}, beyond '
                f'train_cfg.max_{key}s={last}: nothing is left to train'
            )
