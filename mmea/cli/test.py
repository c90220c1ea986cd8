"""``mmea test CONFIG CHECKPOINT``: evaluate a model."""

from contextlib import ExitStack
from pathlib import Path
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
    from torch import nn

__all__ = ['main']

# The metrics that write predictions to one file, by the config's scope.
DUMPS = dict(
    mmdet='DumpDetResults', mmengine='DumpResults', mmpretrain='DumpResults'
)


@command
def main(argv: list[str] | None = None) -> None:
    parser = make_parser(
        'mmea test', 'Evaluate a model of mmseg, mmdet or mmpretrain'
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path of a checkpoint (default: the best in the work dir, or '
        'the latest)',
    )
    parser.add_argument(
        '--out',
        help='write the predictions: for mmseg a folder of label images, for '
        'all else a .pkl file',
    )
    parser.add_argument(
        '--show-dir', help='write pictures of the predictions to this folder'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation, by the config's tta_model and "
        'tta_pipeline',
    )
    args = parser.parse_args(argv)
    hide_known_warnings(args.verbose)

    from mmengine.dist import is_main_process

    from mmea.engine.checkpoint import (
        check_checkpoint,
        pick_weights,
        use_safe_loading,
    )
    from mmea.engine.preflight import preflight
    from mmea.engine.runner import build_runner, run
    from mmea.files import whole

    use_safe_loading()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint or pick_weights(cfg)
    if 'generator' in cfg.model and (args.tta or args.out or args.show_dir):
        raise UserError(
            f'--tta, --out and --show-dir are for what finds things in '
            f'images; {cfg.filename} is a GAN, whose images mmea generate '
            'writes'
        )
    if args.tta:
        _use_tta(cfg)
    if args.out:
        _write_predictions(cfg, args.out)
    if args.show_dir:
        _draw_predictions(cfg, args.show_dir)
    preflight(cfg, 'test_dataloader', check=not args.no_check)
    with ExitStack() as stack:
        if args.out and cfg.default_scope in DUMPS and is_main_process():
            part = stack.enter_context(whole(args.out))
            cfg.test_evaluator[-1].out_file_path = str(part)
        runner = build_runner(cfg, 'test_dataloader', verbose=args.verbose)
        check_checkpoint(runner.model, cfg.load_from, partial=False)
        if args.out and cfg.default_scope not in DUMPS:
            _check_depth(runner.model)
        run(runner, runner.test)


def _use_tta(cfg: 'Config') -> None:
    if not (cfg.get('tta_model') and cfg.get('tta_pipeline')):
        raise UserError(
            f'--tta needs the keys tta_model and tta_pipeline in '
            f'{cfg.filename}'
        )
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def _write_predictions(cfg: 'Config', out: str) -> None:
    scope = cfg.default_scope
    if scope not in DUMPS:
        cfg.test_evaluator['output_dir'] = out
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out must end in .pkl for {scope}, got {out}')
    evaluators = cfg.test_evaluator
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    cfg.test_evaluator = [
        *evaluators,
        dict(type=DUMPS[scope], out_file_path=out),
    ]


def _check_depth(model: 'nn.Module') -> None:
    """Raise if mmseg would write label images that do not hold all ids."""
    number = max(getattr(m, 'num_classes', 0) for m in model.modules())
    if number > 255:
        raise UserError(
            f'--out writes label images of 8 bits, and the model has {number} '
            'classes: ids would be wrapped; leave --out out'
        )


def _draw_predictions(cfg: 'Config', show_dir: str) -> None:
    for own in cfg.get('custom_hooks') or ():
        if own.get('type') == 'mmea.CloudPictureHook':
            own['out_dir'] = show_dir
            return
    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            '--show-dir needs default_hooks.visualization in the config '
            "(mmseg's SegVisualizationHook, mmdet's DetVisualizationHook, "
            "mmpretrain's VisualizationHook)"
        )
    hook.interval = 1  # every image
    if cfg.default_scope == 'mmpretrain':
        hook.enable = True
        hook.out_dir = show_dir
        return
    hook.draw = True
    if cfg.default_scope == 'mmdet':
        # mmdet joins it to the work dir.
        hook.test_out_dir = str(Path(show_dir).absolute())
    else:
        cfg.visualizer = dict(cfg.visualizer, save_dir=show_dir)
