"""``mmea train CONFIG``: train a model."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mmea.cli.common import command, load_config, make_parser
from mmea.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['main']


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
    args = parser.parse_args(argv)

    from mmengine.dist import is_main_process

    from mmea.engine.checkpoint import (
        check_checkpoint,
        resolve_resume,
        use_safe_loading,
    )
    from mmea.engine.hooks import keep_best
    from mmea.engine.lock import lock_folder
    from mmea.engine.preflight import preflight
    from mmea.engine.runner import build_runner, run

    use_safe_loading()
    cfg = load_config(args)
    if args.amp:
        _use_amp(cfg)
    resolve_resume(cfg, args.resume)
    loaders = 'train_dataloader', 'val_dataloader'
    keep_best(cfg)
    preflight(cfg, *loaders, check=not args.no_check)
    held: AbstractContextManager = nullcontext()
    if is_main_process():
        held = lock_folder(cfg.work_dir, 'training')
    with held:
        runner = build_runner(cfg, *loaders)
        if cfg.get('load_from'):
            resumed = cfg.get('resume')
            check_checkpoint(
                runner.model,
                cfg.load_from,
                partial=not resumed,
                train_cfg=cfg.train_cfg if resumed else None,
            )
        run(runner, runner.train)


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
