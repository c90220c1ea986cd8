"""From a command line to a Runner: what train and test share."""

import argparse
import functools
import gc
import importlib
import os
import sys
import tempfile
from pathlib import Path

import mmengine.dist as dist
import torch
from mmengine.config import Config, DictAction
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
    'command',
    'make_parser',
    'prepare_data',
    'read_config',
]


def make_parser(description: str) -> argparse.ArgumentParser:
    """The arguments that train and test have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        'config', help='path of a config, or the name of one mmea ships'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints (default: work_dirs/CONFIG, '
        'with --demo work_dirs/CONFIG_demo, with --swap-attention '
        'mmea.X work_dirs/CONFIG_X)',
    )
    parser.add_argument(
        '--demo',
        action='store_true',
        help='use small scenes that mmea renders, a light backbone and a '
        'short schedule: configs/_base_/demo says what changes',
    )
    parser.add_argument(
        '--swap-attention',
        metavar='TYPE',
        help='replace non-local blocks and self-attention of the model by '
        'this layer, such as mmea.ExternalAttention2d; model.rules.0.target '
        'of --cfg-options sets its arguments',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override single settings, such as '
        'model.decode_head.attention.num_slots=32',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes (default: none, one process)',
    )
    # torch's older launcher passes it; torchrun sets the environment.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )
    return parser


def command(main):
    """Print a UserError as one line and exit with 1.

    With ``MMEA_TRACEBACK=1`` in the environment its traceback is shown.
    """

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None):
        # custom_imports of a config find the modules of the project that it
        # is launched from, also by tools/train.py.
        sys.path.insert(0, os.getcwd())
        try:
            main(argv)
            # No process leaves the group while another still writes.
            dist.barrier()
        except UserError as error:
            if os.environ.get('MMEA_TRACEBACK'):
                raise
            sys.exit(f'error: {error}')
        finally:
            if torch.distributed.is_initialized():
                # A model in DDP holds the group; it must go first, or gloo
                # may abort the process while the interpreter ends.
                gc.collect()
                torch.distributed.destroy_process_group()

    return wrapped


def read_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments name and apply them to it.

    Order: the file, then ``--demo``, ``--swap-attention`` and
    ``--cfg-options``; ``--work-dir`` and ``--launcher`` last.

    Raises:
        UserError: No such config, one without a demo, or one whose attention
            is swapped already.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = args.config
    if not Path(path).is_file():
        try:
            path = mmea.config(path)
        except ValueError as error:
            raise UserError(
                f'no config file {args.config}, and {error}'
            ) from None
    cfg = Config.fromfile(path)
    if args.demo:
        _apply_demo(cfg)
    if args.swap_attention:
        _swap_attention(cfg, args.swap_attention)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif args.demo or args.swap_attention or not cfg.get('work_dir'):
        name = Path(path).stem + ('_demo' if args.demo else '')
        if args.swap_attention:
            # Its checkpoints are of another architecture.
            name += '_' + args.swap_attention.rpartition('.')[2]
        cfg.work_dir = os.path.join('work_dirs', name)
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
        cfg (Config): As :func:`read_config` gives it.
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
        cfg (Config): As :func:`read_config` gives it.
        loaders (str): Keys of data loaders of the config.

    Raises:
        UserError: The data is not there, or not as the config describes it.
    """
    _write_demo_scenes(cfg)
    for loader in loaders:
        check_data(cfg, loader)


def check_packages(cfg: Config):
    """Check that the package of a config's default scope is installed.

    Raises:
        UserError: It cannot be imported.
    """
    scope = cfg.get('default_scope')
    if scope in (None, 'mmengine', 'mmea'):
        return
    try:
        importlib.import_module(f'{scope}.models')
    except ImportError as error:
        if 'mmcv._ext' in str(error):
            raise UserError(
                f"{scope} needs mmcv's compiled ops, and the installed mmcv "
                'has none; build them once as docs/install.md shows '
                '(in a checkout of mmea: make test)'
            ) from error
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
    if cfg.launcher == 'none' or dist.is_distributed():
        return
    if get_device() != 'cpu':
        dist.init_dist(
            cfg.launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {})
        )
        return
    if cfg.launcher != 'pytorch' or 'RANK' not in os.environ:
        raise UserError(
            f'--launcher {cfg.launcher} without a GPU: only torchrun starts '
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
