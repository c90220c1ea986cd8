"""From the name of a config to a Runner."""

import importlib
import os
import tempfile
from pathlib import Path

import mmengine.dist as dist
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmea
from mmea.engine.check_data import check_data, check_heads
from mmea.errors import EXTRAS, UserError

__all__ = [
    'build_runner',
    'check_packages',
    'load_config',
    'prepare_data',
]


def load_config(
    name: str,
    *,
    demo: bool = False,
    swap: str | None = None,
    options: dict | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config as the commands train and test it.

    Args:
        name (str): Path of a config file, or the name of one mmea ships.
        demo (bool): Apply what ``--demo`` changes. Default: False.
        swap (str, optional): Attention that replaces the model's, as
            ``--swap-attention`` names it.
        options (dict, optional): Dotted keys and values to override.
        work_dir (str, optional): Default: ``work_dirs/NAME``, with the
            endings ``_demo`` and the layer of ``swap``.

    Returns:
        Config: The file, then demo, swap, options and work_dir applied in
        this order.

    Raises:
        UserError: No such config, one without a demo, or one whose attention
            is swapped already.
    """
    path = name
    if not Path(path).is_file():
        try:
            path = mmea.config(name)
        except ValueError as error:
            raise UserError(f'no config file {name}, and {error}') from None
    cfg = Config.fromfile(path)
    if demo:
        _apply_demo(cfg)
    if swap:
        _swap_attention(cfg, swap)
    if options:
        cfg.merge_from_dict(options)
    if work_dir:
        cfg.work_dir = work_dir
    elif demo or swap or not cfg.get('work_dir'):
        stem = Path(path).stem + ('_demo' if demo else '')
        if swap:
            # Its checkpoints are of another architecture.
            stem += '_' + swap.rpartition('.')[2]
        cfg.work_dir = os.path.join('work_dirs', stem)
    return cfg


def _apply_demo(cfg: Config):
    """Merge the demo files that the config's bases name."""
    names = [cfg.get('demo_data'), cfg.get('demo_model')]
    if None in names:
        raise UserError(
            f'{cfg.filename} has no demo: it lacks the keys demo_data and '
            'demo_model; inherit from a config of mmea that has them, such '
            'as ea_fpn_ade20k.py, or train without --demo'
        )
    for name in names:
        demo = Config.fromfile(mmea.config(name))
        cfg.merge_from_dict(demo.to_dict(), allow_list_keys=False)


def _swap_attention(cfg: Config, target: str):
    """Write mmea.SwapAttention around the config's model.

    The model's keys stay where they are, beside ``rules``, so that options
    and tools that look for model.backbone still find it.
    """
    if cfg.model.type == 'mmea.SwapAttention':
        raise UserError(
            f'{cfg.filename} swaps the attention itself, by model.rules; '
            'change those instead of --swap-attention'
        )
    own = ('type', '_scope_', 'model', 'rules', 'input_size')
    inner = {key: cfg.model.pop(key) for key in own if key in cfg.model}
    cfg.model.update(
        type='mmea.SwapAttention',
        model=inner,
        rules=[dict(source='any', target=dict(type=target))],
    )


def build_runner(cfg: Config, *loaders: str) -> Runner:
    """Check the surroundings of a config, then build its Runner.

    Args:
        cfg (Config): As :func:`load_config` gives it.
        loaders (str): Keys of the data loaders that will be used.

    Returns:
        Runner: mmengine's.

    Raises:
        UserError: A package, the data or the work dir is not there, or a
            part of the config has a wrong type or argument.
    """
    check_packages(cfg)
    _check_work_dir(cfg.work_dir)
    _init_distributed(cfg)
    loaders = [loader for loader in loaders if cfg.get(loader)]
    prepare_data(cfg, *loaders)
    if get_device() == 'cpu' and _replace_type(cfg.model, 'SyncBN', 'BN'):
        print_log(
            'SyncBN needs GPUs: BN takes its place on this CPU', 'current'
        )
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    try:
        runner = build(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'cannot build what {cfg.filename} describes: {error.args[0]}'
        ) from error
    for loader in loaders:
        check_heads(runner.model, cfg, loader)
    return runner


def prepare_data(cfg: Config, *loaders: str):
    """Render the demo's scenes, if the config is a demo's; check the data.

    Args:
        cfg (Config): As :func:`load_config` gives it.
        loaders (str): Keys of data loaders of the config.

    Raises:
        UserError: The data is not there, or not as the config describes it.
    """
    _write_demo_scenes(cfg)
    for loader in loaders:
        check_data(cfg, loader)


def check_packages(cfg: Config):
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


def _check_work_dir(work_dir: str):
    try:
        os.makedirs(work_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise UserError(
            f'cannot write to the work dir {work_dir} ({error.strerror}); '
            'choose another with --work-dir'
        ) from error


def _init_distributed(cfg: Config):
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
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def _write_demo_scenes(cfg: Config):
    scenes = cfg.get('demo_scenes')
    if scenes is None:
        return
    from mmea.datasets.demo import write_demo

    if dist.is_main_process():
        write_demo(out_dir=cfg.train_dataloader.dataset.data_root, **scenes)
    dist.barrier()


def _replace_type(cfg, old: str, new: str) -> bool:
    """Replace a ``type`` everywhere in a config; whether there was one."""
    found = False
    if isinstance(cfg, dict):
        if cfg.get('type') == old:
            cfg['type'] = new
            found = True
        cfg = cfg.values()
    elif not isinstance(cfg, (list, tuple)):
        return False
    for value in cfg:
        found |= _replace_type(value, old, new)
    return found
