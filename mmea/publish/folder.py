"""What is written of a trained model, and in which order."""

import hashlib
import os
import re
from contextlib import ExitStack
from pathlib import Path

import torch
from mmengine.config import Config

from mmea.engine.checkpoint import load_checkpoint
from mmea.errors import UserError
from mmea.files import whole
from mmea.inference import load

from .card import read_metrics, write_card
from .config import plain_meta, published_config
from .weights import hashed_name, to_half, to_pth, to_safetensors

__all__ = ['publish']


def publish(
    cfg: Config,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    name: str,
    half: bool = False,
    license: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Write weights, config and card of a trained model to a folder.

    Args:
        cfg (Config): Of the training, as
            :func:`mmea.engine.config.load_config` gives it.
        checkpoint (str | PathLike): Path or address.
        out (str | PathLike): The folder.
        name (str): Of the model, and of its files.
        half (bool): Write the weights as float16. Default: False.
        license (str | None): Identifier, such as ``'apache-2.0'``, for the
            card.
        force (bool): Write into a folder that is not empty, over what was
            published there under this name. Default: False.

    Returns:
        list[Path]: ``NAME-HASH.safetensors``, ``NAME-HASH.pth``, ``NAME.py``
        and ``README.md``.

    Raises:
        UserError: The folder is not empty, the checkpoint does not fit, a
            package is missing, or the disk is full.
    """
    out = Path(out)
    _check_out(out, name, force)
    if not re.fullmatch(r'[\w.+-]+', name):
        raise UserError(
            f'a name takes letters, digits and _.+-, got {name!r}; give one '
            'by --name'
        )
    if license and not re.fullmatch(r'[\w.+-]+', license):
        raise UserError(
            f'license takes an identifier such as apache-2.0, got {license!r}'
        )
    # Before the model is built, which may change its config.
    trained = Config(cfg.to_dict(), filename=cfg.filename)
    predictor = load(cfg, checkpoint, device='cpu')
    meta = plain_meta(predictor.meta)
    config = published_config(trained, meta)
    state = predictor.model.state_dict()
    if half:
        state = to_half(state)
    weights = {
        hashed_name(name, data, suffix): data
        for suffix, data in (
            ('.safetensors', to_safetensors(state)),
            ('.pth', to_pth(state, meta)),
        )
    }
    checkpoint_meta = load_checkpoint(checkpoint, 'cpu').get('meta') or {}
    card = write_card(
        trained,
        config,
        meta,
        name=name,
        checkpoint_meta=checkpoint_meta,
        metrics=read_metrics(
            Path(checkpoint).parent, trained, checkpoint_meta
        ),
        hashes={
            file: hashlib.sha256(data).hexdigest()
            for file, data in weights.items()
        },
        half=half,
        license=license,
    )
    texts = {f'{name}.py': config.pretty_text, 'README.md': card}
    contents = weights | {
        file: f'{text.rstrip()}\n'.encode() for file, text in texts.items()
    }
    try:
        with ExitStack() as stack:  # all of them or none
            for file, data in contents.items():
                stack.enter_context(whole(out / file)).write_bytes(data)
        for old in _published(out, name):
            if old.name not in weights:
                old.unlink()
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror}') from error
    # Whoever gets it can load it.
    written = load(out, device='cpu').model.state_dict()
    for key, value in state.items():
        if not torch.equal(written[key].to(value), value):
            raise UserError(f'{out} holds other weights than it should: {key}')
    return [out / file for file in contents]


def _check_out(out: Path, name: str, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is a file; name a folder')
    there = list(out.iterdir()) if out.is_dir() else []
    if there and not force:
        raise UserError(
            f'{out} is not empty (it holds {there[0].name}); name another '
            'folder, or replace what was published there by --force'
        )
    own = {out / f'{name}.py', *_published(out, name)}
    # mmea.load() looks for one of each.
    for other in there:
        if other.suffix in ('.py', '.safetensors') and other not in own:
            raise UserError(
                f'{out} holds {other.name}, which is nothing of {name}; name '
                'another folder'
            )


def _published(out: Path, name: str) -> list[Path]:
    form = rf'{re.escape(name)}-[0-9a-f]{{8}}\.(pth|safetensors)'
    return [path for path in out.glob('*') if re.fullmatch(form, path.name)]
