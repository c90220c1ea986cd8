"""Train a model: ``python -m mmea.train CONFIG``."""

from mmengine.config import Config
from mmengine.device import get_device

from mmea.engine.checkpoint import (
    check_checkpoint,
    find_checkpoint,
    use_safe_loading,
)
from mmea.engine.launch import build_runner, command, make_parser, read_config
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None):
    parser = make_parser('Train a model of mmseg, mmdet or mmpretrain')
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
    use_safe_loading()
    cfg = read_config(args)
    if args.amp:
        _use_amp(cfg)
    if args.resume:
        _resume(cfg, args.resume)
    runner = build_runner(cfg, 'train_dataloader', 'val_dataloader')
    if cfg.get('load_from'):
        check_checkpoint(
            runner.model, cfg.load_from, partial=not cfg.get('resume')
        )
    runner.train()


def _use_amp(cfg: Config):
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


def _resume(cfg: Config, resume: str):
    cfg.resume = True
    cfg.load_from = resume
    if resume == 'auto':
        cfg.load_from = find_checkpoint(cfg.work_dir)
        if cfg.load_from is None:
            cfg.resume = False  # or the Runner looks once more
            print(f'No checkpoint in {cfg.work_dir}: starting anew')


if __name__ == '__main__':
    main()
