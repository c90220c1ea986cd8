"""``mmea train CONFIG``: train a model."""

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mmea.cli.common import (
    command,
    hide_known_warnings,
    load_config,
    make_parser,
)
from mmea.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['main']

#: Where a launcher tells the number of a process, before mmengine sets RANK.
RANKS = dict(slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


@command
def main(argv: list[str] | None = None) -> None:
    parser = make_parser(
        'mmea train', 'Train a model of mmseg, mmdet or mmpretrain'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from a checkpoint, or from the latest in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: on a GPU as the stack does it, on a CPU '
        'bfloat16',
    )
    parser.add_argument(
        '--log',
        choices=['tensorboard', 'wandb'],
        action='append',
        help='write the curves there too',
    )
    parser.add_argument(
        '--early-stop',
        type=int,
        metavar='N',
        help='stop after N validations without a better one',
    )
    parser.add_argument(
        '--fast-resume',
        action='store_true',
        help='go on with new batches at once, instead of passing by those '
        'that the run has seen',
    )
    args = parser.parse_args(argv)
    hide_known_warnings(args.verbose)

    from mmengine.dist import is_main_process

    from mmea.engine.checkpoint import (
        check_checkpoint,
        resolve_resume,
        use_safe_loading,
    )
    from mmea.engine.failed_start import clean_after_failed_start
    from mmea.engine.hooks import LastValidationHook, keep_best
    from mmea.engine.lock import lock_folder
    from mmea.engine.next_step import tell_next_step
    from mmea.engine.preflight import preflight
    from mmea.engine.runner import build_runner, run

    use_safe_loading()
    cfg = load_config(args)
    if args.amp:
        _use_amp(cfg)
    if args.log:
        _log_to(cfg, args.log)
    if args.fast_resume:
        _resume_fast(cfg)
    resolve_resume(cfg, args.resume)
    loaders = 'train_dataloader', 'val_dataloader'
    keep_best(cfg)
    if args.early_stop is not None:
        _stop_early(cfg, args.early_stop)
    with ExitStack() as stack:
        if os.environ.get(RANKS.get(args.launcher, 'RANK'), '0') == '0':
            stack.enter_context(clean_after_failed_start(cfg.work_dir))
        preflight(cfg, *loaders, check=not args.no_check)
        if is_main_process():
            stack.enter_context(lock_folder(cfg.work_dir, 'training'))
        runner = build_runner(cfg, *loaders, verbose=args.verbose)
        if cfg.get('load_from'):
            resumed = cfg.get('resume')
            check_checkpoint(
                runner.model,
                cfg.load_from,
                partial=not resumed,
                train_cfg=cfg.train_cfg if resumed else None,
            )
        if cfg.get('resume'):
            runner.register_hook(LastValidationHook())
        run(runner, runner.train)
    tell_next_step(runner)


#: What `--log` adds, and the package that it needs.
BACKENDS = dict(
    tensorboard=('TensorboardVisBackend', 'tensorboard'),
    wandb=('WandbVisBackend', 'wandb'),
)


def _log_to(cfg: 'Config', names: list[str]) -> None:
    from importlib.util import find_spec

    visualizer = cfg.get('visualizer') or dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    backends = list(visualizer.get('vis_backends') or ())
    for name in dict.fromkeys(names):
        kind, package = BACKENDS[name]
        if find_spec(package) is None:
            raise UserError(
                f'--log {name} needs the package {package}: pip install '
                f'{package}'
            )
        if all(backend.get('type') != kind for backend in backends):
            backends.append(dict(type=kind))
    visualizer['vis_backends'] = backends
    cfg.visualizer = visualizer


def _stop_early(cfg: 'Config', patience: int) -> None:
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    key = hook.get('save_best')
    if patience < 1 or not isinstance(key, str) or key == 'auto':
        raise UserError(
            f'--early-stop {patience}: give validations >= 1, and a metric '
            'to go by in default_hooks.checkpoint.save_best (now '
            f'{key!r})'
        )
    stopper = dict(
        type='EarlyStoppingHook',
        monitor=key,
        rule=hook.get('rule') or 'greater',
        patience=patience,
        min_delta=1e-6,  # with 0 an equal score is a better one
    )
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), stopper]


def _resume_fast(cfg: 'Config') -> None:
    import inspect

    from mmengine.registry import LOOPS

    kind = cfg.train_cfg.get('type') or 'IterBasedTrainLoop'
    loop = LOOPS.get(kind) if isinstance(kind, str) else kind
    name = 'fast_forward_on_resume'
    if name not in inspect.signature(loop).parameters:
        raise UserError(
            f'--fast-resume: {kind} of this mmengine has no {name}; that of '
            'onedl has it, for IterBasedTrainLoop'
        )
    cfg.train_cfg[name] = True


def _use_amp(cfg: 'Config') -> None:
    from mmengine.device import get_device

    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind in ('AmpOptimWrapper', 'mmea.CPUAmpOptimWrapper'):
        return
    if kind != 'OptimWrapper':
        raise UserError(
            f'--amp replaces optim_wrapper.type=OptimWrapper, but it is '
            f'{kind}; set an AMP wrapper in the config instead'
        )
    if get_device() == 'cpu':
        wrapper.type = 'mmea.CPUAmpOptimWrapper'
    else:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.loss_scale = 'dynamic'
