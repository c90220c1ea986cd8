"""Checks of a config's surroundings, before anything is built."""

import copy
import importlib
import os
import tempfile
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import mmengine.dist as dist
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, OPTIMIZERS, init_default_scope

from mmea.engine.data_checks import check_data, use_labels_if_any
from mmea.errors import EXTRAS, UserError, in_one_line

__all__ = [
    'check_packages',
    'check_test_mode',
    'preflight',
    'prepare_data',
]

#: Those of mmseg that mmea's stands in for.
SEGMENTORS = 'EncoderDecoder', 'mmseg.EncoderDecoder'


def preflight(cfg: Config, *loaders: str, check: bool = True) -> None:
    """Check packages, work dir and data; join the other processes.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
        loaders (str): Keys of the data loaders that will be used.
        check (bool): Whether to look at the data. Default: True.

    Raises:
        UserError: A package, the data or the work dir is not there, the swap
            of the config fits nothing, or the processes cannot meet.
    """
    check_packages(cfg)
    check_test_mode(cfg)
    _check_work_dir(cfg.work_dir)
    _check_interval(cfg)
    _check_optimizer(cfg)
    _check_swap(cfg)
    _init_distributed(cfg)
    prepare_data(cfg, *loaders, check=check)


def check_packages(cfg: Config) -> None:
    """Check that torch and the package of a config's default scope will do.

    Raises:
        UserError: torch is too old, or the package cannot be imported.
    """
    try:
        importlib.import_module('mmea.ops')
    except ImportError as error:
        raise UserError(str(error)) from error
    scope = cfg.get('default_scope')
    if scope in (None, 'mmengine', 'mmea'):
        return
    try:
        importlib.import_module(f'{scope}.models')
    except ImportError as error:
        if getattr(error, 'name', None) == 'mmcv._ext':
            # Compiled for another torch, or none and no torchvision either.
            fault = (
                f"mmcv's compiled ops do not fit torch {torch.__version__} "
                f'({error}); build them anew, or take an mmcv without ops, '
                'as docs/install.md shows'
                if error.path
                else error
            )
            raise UserError(f'{scope} cannot be imported: {fault}') from error
        extra = EXTRAS.get(scope)
        raise UserError(
            f'the config needs {scope} (default_scope={scope!r}), which '
            f'cannot be imported: {error}; install '
            f'{f"the extra {extra} of mmea" if extra else "it"} as '
            'docs/install.md shows'
        ) from error


def check_test_mode(cfg: Config) -> None:
    """Check that the segmentor knows the mode of its test_cfg.

    Raises:
        UserError: The mode is mmea's, and the segmentor is mmseg's.
    """
    model = cfg.get('model')
    if not isinstance(model, dict):
        return  # an error of its own, later
    mode = (model.get('test_cfg') or {}).get('mode')
    kind = model.get('type')
    if mode == 'exact_tiles' and kind in SEGMENTORS:
        raise UserError(
            "model.test_cfg has mode='exact_tiles', which mmea's segmentor "
            f"knows: set model.type='mmea.EncoderDecoder', got {kind!r}"
        )


def prepare_data(cfg: Config, *loaders: str, check: bool = True) -> None:
    """Render the demo's scenes, if the config is a demo's; check the data.

    Args:
        cfg (Config): The whole config.
        loaders (str): Keys of data loaders; those that the config lacks are
            passed over.
        check (bool): Whether to look at the data. Default: True.

    Raises:
        UserError: The data is not there, or not as the config describes it.
    """
    _in_main_process(_write_demo_scenes, cfg)
    used = [loader for loader in loaders if cfg.get(loader)]
    for loader in used:
        use_labels_if_any(cfg, loader)
    if check:
        for loader in used:
            _in_main_process(check_data, cfg, loader)


def _in_main_process(function: Callable[..., None], *args: Any) -> None:
    """Call a function in one process, and raise its UserError in all."""
    caught = None
    if dist.is_main_process():
        try:
            function(*args)
        except UserError as error:
            caught = error
    message = [caught and str(caught)]
    dist.broadcast_object_list(message)
    if message[0]:
        raise caught or UserError(message[0])


def _check_work_dir(work_dir: str) -> None:
    try:
        os.makedirs(work_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise UserError(
            f'cannot write to the work dir {work_dir} ({error.strerror}); '
            'choose another with --work-dir'
        ) from error


def _check_interval(cfg: Config) -> None:
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    interval = hook.get('interval', 1)
    if not isinstance(interval, int) or interval == 0:
        raise UserError(
            f'default_hooks.checkpoint.interval={interval!r} would save no '
            'checkpoint; give the number of iterations or epochs between two '
            '(-1, if none is wanted)'
        )


def _check_optimizer(cfg: Config) -> None:
    """Name an optimiser that there is none of; mmengine calls None."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    kind = optimizer.get('type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        close = get_close_matches(kind, OPTIMIZERS.module_dict)
        raise UserError(
            f'optim_wrapper.optimizer.type={kind!r} is not registered'
            + (f'; did you mean {close[0]!r}?' if close else '')
        )


def _check_swap(cfg: Config) -> None:
    """Swap the attention once before the data is read, which may take long."""
    model = cfg.get('model')
    swapped = isinstance(model, dict) and model.get('type')
    if swapped != 'mmea.SwapAttention':
        return
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with in_one_line(f'cannot build what {cfg.filename} describes'):
        MODELS.build(copy.deepcopy(cfg.model))


def _init_distributed(cfg: Config) -> None:
    """Join the process group here, before anything is written.

    mmengine's own launcher needs CUDA; on a CPU the group is gloo's, and DDP
    must not be given device ids.
    """
    launcher = cfg.setdefault('launcher', 'none')
    if launcher == 'none' or dist.is_distributed():
        return
    if get_device() != 'cpu':
        dist.init_dist(launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {}))
        return
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise UserError(
            f'--launcher {launcher} without a GPU: only torchrun starts '
            'processes on CPUs; use tools/dist_train.sh (--launcher pytorch)'
        )
    torch.distributed.init_process_group('gloo')
    wrapper = (cfg.get('model_wrapper_cfg') or {}).get('type')
    if wrapper not in (None, 'MMDistributedDataParallel'):
        return
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def _write_demo_scenes(cfg: Config) -> None:
    scenes = cfg.get('demo_scenes')
    if scenes is None:
        return
    from mmea.demo import write_demo

    root = cfg.train_dataloader.dataset.data_root
    try:
        write_demo(out_dir=root, **scenes)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(
            f'cannot render the demo scenes (demo_scenes, '
            f'train_dataloader.dataset.data_root): {error}'
        ) from error
