"""``mmea predict CONFIG [CHECKPOINT] INPUT... --out DIR``: use a model."""

import argparse
from pathlib import Path

from mmea.cli.common import command, hide_known_warnings, left_out
from mmea.errors import UserError

__all__ = ['main']

CHECKPOINTS = ('.pth', '.pt', '.safetensors')


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea predict',
        description='Predict on photographs and videos: pictures, label '
        'images or boxes, and a table of what was found.',
    )
    parser.add_argument(
        'config',
        help='path of a config, the name of one mmea ships, a published '
        'folder, or the name of a model of the zoo, such as '
        'ea-fpn_mobilenet-v2_ccp, which needs no checkpoint',
    )
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='[checkpoint] input',
        help='a checkpoint (default: the best of the work dir, or the '
        'latest), then files, folders or globs',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the results'
    )
    parser.add_argument(
        '--opacity',
        type=float,
        default=0.5,
        help='of classes and masks over the photographs (default: 0.5)',
    )
    parser.add_argument(
        '--classes', nargs='+', help='draw and count these alone'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='leave out instances of a lower score (default: 0.3)',
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (default: a GPU, if there is)'
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, help='images at a time'
    )
    parser.add_argument(
        '--tiles',
        type=_core,
        nargs='?',
        const=1024,
        metavar='CORE',
        help='segmentation of images of any size: run over tiles of so many '
        'pixels (default: 1024), with the numbers of the whole; the same '
        'command goes on where it was stopped',
    )
    args = parser.parse_intermixed_args(argv)
    for name in ('opacity', 'score_thr'):
        if not 0 <= getattr(args, name) <= 1:
            option = name.replace('_', '-')
            raise UserError(
                f'--{option} must be from 0 to 1, got {getattr(args, name)}'
            )
    if args.batch_size < 1:
        raise UserError(f'--batch-size must be >= 1, got {args.batch_size}')
    if args.tiles is not None and args.batch_size != 1:
        raise UserError(
            f'--batch-size {args.batch_size} is of no use with --tiles, which '
            'run one at a time: leave it out, or take larger tiles'
        )
    checkpoint = None
    if args.inputs[0].endswith(CHECKPOINTS):
        checkpoint, *args.inputs = args.inputs

    hide_known_warnings()

    from mmea.engine.checkpoint import use_safe_loading
    from mmea.files import make_folder
    from mmea.inference import load
    from mmea.inference.files import predict_files
    from mmea.inference.inputs import find_inputs

    use_safe_loading()
    inputs = find_inputs(args.inputs, leave_out=args.out)
    predictor = load(args.config, checkpoint, device=args.device)
    only = None
    if args.classes:
        names = dict.fromkeys(args.classes)
        only = [_find(name, predictor.classes) for name in names]
    make_folder(args.out, '--out')
    drawing = dict(opacity=args.opacity, only=only)
    try:
        if args.tiles is not None:
            from mmea.inference.tile_files import predict_files_in_tiles

            broken = predict_files_in_tiles(
                predictor, inputs, args.out, core=args.tiles, **drawing
            )
        else:
            broken = predict_files(
                predictor,
                inputs,
                args.out,
                batch_size=args.batch_size,
                score_thr=args.score_thr,
                **drawing,
            )
    except OSError as error:
        raise UserError(f'cannot write to --out {args.out}: {error}') from None
    print(f'Results: {args.out}')
    if broken:
        raise left_out(broken, len(inputs))


def _core(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f'{text!r} is no number of pixels; name inputs before --tiles'
        )
    return int(text)


def _find(name: str, classes: tuple[str, ...]) -> int:
    from difflib import get_close_matches

    if name not in classes:
        close = get_close_matches(name, classes, 1) or classes[:5]
        raise UserError(
            f'--classes {name}: the model has no such class; it has '
            f'{", ".join(close)}' + (', ...' if len(classes) > 1 else '')
        )
    return classes.index(name)
