"""``mmea visualize CONFIG [CHECKPOINT] IMAGE... --out DIR``: attention."""

import argparse
from pathlib import Path

from mmea.cli.common import command, hide_known_warnings, left_out
from mmea.cli.predict import CHECKPOINTS
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea visualize',
        description='Draw what the attention of a model looks at: slots over '
        'photographs, shares and similarities; or, over a data set, which '
        'slots answer to which classes.',
    )
    parser.add_argument(
        'config',
        help='path of a config, the name of one mmea ships, or a published '
        'folder',
    )
    parser.add_argument(
        'inputs',
        nargs='*',
        metavar='[checkpoint] image',
        help='a checkpoint (default: the best of the work dir, or the '
        'latest), then photographs, folders or globs',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the results'
    )
    parser.add_argument(
        '--pixel',
        type=float,
        nargs=2,
        metavar=('X', 'Y'),
        help='of the photograph, whose reading is drawn (default: the centre)',
    )
    parser.add_argument(
        '--slots', type=int, default=12, help='maps on a page (default: 12)'
    )
    parser.add_argument(
        '--layers', nargs='+', metavar='NAME', help='draw these alone'
    )
    parser.add_argument(
        '--data',
        choices=['val', 'test'],
        help='instead of photographs: slots and classes over this data set, '
        'of segmentors',
    )
    parser.add_argument(
        '--limit', type=int, help='with --data, the first so many images'
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (default: a GPU, if there is)'
    )
    args = parser.parse_intermixed_args(argv)
    for name in ('slots', 'limit'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f'--{name} must be >= 1, got {value}')
    if args.pixel and not min(args.pixel) >= 0:
        x, y = args.pixel
        raise UserError(f'--pixel must be >= 0, got {x:g} {y:g}')
    checkpoint = None
    if args.inputs and args.inputs[0].endswith(CHECKPOINTS):
        checkpoint, *args.inputs = args.inputs
    if bool(args.inputs) == bool(args.data):
        raise UserError('name photographs, or a data set by --data val')

    hide_known_warnings()

    from mmea.engine.checkpoint import use_safe_loading
    from mmea.files import make_folder
    from mmea.inference import load
    from mmea.inference.inputs import find_inputs
    from mmea.visualize import draw_data, draw_files

    use_safe_loading()
    inputs = find_inputs(args.inputs)
    for source in inputs:
        if source.is_video:
            raise UserError(f'{source.path} is a video; name photographs')
    predictor = load(args.config, checkpoint, device=args.device)
    make_folder(args.out, '--out')
    broken: list[str] = []
    if args.data:
        draw_data(
            predictor,
            args.data,
            args.out,
            limit=args.limit,
            layers=args.layers,
        )
    else:
        broken = draw_files(
            predictor,
            inputs,
            args.out,
            pixel=args.pixel,
            num_slots=args.slots,
            layers=args.layers,
        )
    if len(broken) < len(inputs) or args.data:
        print(f'Results: {args.out}')
    if broken:
        raise left_out(broken, len(inputs))
