"""``mmea generate CONFIG [CHECKPOINT] --out DIR``: images of a GAN."""

import argparse
from pathlib import Path

from mmea.cli.common import add_model, command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea generate',
        description='Make images with a trained GAN: one file each, in a '
        'folder for each class, a page of all, and a walk from one image to '
        'another in each class.',
    )
    add_model(parser)
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the images'
    )
    parser.add_argument(
        '--number',
        type=int,
        default=10,
        help='images of each class (default: %(default)s)',
    )
    parser.add_argument(
        '--classes', nargs='+', help='by name or number (default: all)'
    )
    parser.add_argument(
        '--steps',
        type=int,
        default=10,
        help='of the walk, with both ends (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the noise (default: 0)'
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (default: a GPU, if there is)'
    )
    args = parser.parse_args(argv)
    for name, low in (('number', 1), ('steps', 2), ('seed', 0)):
        if getattr(args, name) < low:
            raise UserError(
                f'--{name} must be >= {low}, got {getattr(args, name)}'
            )

    hide_known_warnings()

    from mmea.engine.checkpoint import use_safe_loading
    from mmea.files import make_folder
    from mmea.gan import GAN, write_samples
    from mmea.inference import load_model

    use_safe_loading()
    model, cfg, meta = load_model(
        args.config, args.checkpoint, device=args.device
    )
    if not isinstance(model, GAN):
        raise UserError(
            f'{cfg.filename} is of type {type(model).__name__}, which finds '
            'things in images and makes none: mmea predict'
        )
    total = model.generator.num_classes
    names = [str(name) for name in meta.get('classes') or ()][:total]
    if not total:
        names, total = ['images'], 1
    names += [str(i) for i in range(len(names), total)]
    labels = [_find(name, names) for name in args.classes or names]
    make_folder(args.out, '--out')
    try:
        write_samples(
            model,
            {label: names[label] for label in labels},
            args.out,
            number=args.number,
            steps=args.steps,
            seed=args.seed,
        )
    except OSError as error:
        raise UserError(f'cannot write to --out {args.out}: {error}') from None
    print(f'Images: {args.out}, all on {args.out / "grid.png"}')


def _find(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    from difflib import get_close_matches

    close = get_close_matches(name, names, 1) or names[:5]
    raise UserError(
        f'--classes {name}: the model has no such class; it has '
        f'{", ".join(close)}' + (', ...' if len(names) > 1 else '')
    )
