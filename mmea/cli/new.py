"""``mmea new DATA``: a config for data of your own."""

import argparse
import os
from pathlib import Path

from mmea.cli.common import command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea new',
        description='Look at images and masks, or at a COCO file, and write '
        'a config that trains a model on them.',
    )
    parser.add_argument(
        'data', help='folder of images and masks, or a COCO file (.json)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('my_config.py'),
        help='the config; lists of the images of each split are written '
        'beside it (default: %(default)s)',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='where the images are (default: found by its name; of a COCO '
        'file, looked for beside it)',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='of masks, names of the ids 0, 1, ... (default: class 0, ...); '
        'of a COCO file, the categories to learn (default: all)',
    )
    parser.add_argument(
        '--val-share',
        type=float,
        default=0.2,
        help='of the images, for validation, where the data have no split '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the split (default: 0)'
    )
    parser.add_argument(
        '--max-iters',
        type=int,
        default=400,
        help='length of the training, in steps of 4 images (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--force', action='store_true', help='replace files that are there'
    )
    masks = parser.add_argument_group('images and masks')
    masks.add_argument(
        '--masks',
        metavar='FOLDER',
        help='where the masks are (default: found by its name)',
    )
    masks.add_argument(
        '--mask-suffix',
        metavar='TEXT',
        help='what masks have behind the name of the image, such as _mask.png '
        '(default: what most have)',
    )
    masks.add_argument(
        '--write-labels',
        action='store_true',
        help='write copies of the masks whose ids count from 0 (0 and 255 '
        'become 0 and 1) to DATA/label_ids, and use those',
    )
    coco = parser.add_argument_group('COCO file')
    coco.add_argument(
        '--val',
        metavar='FILE',
        help='COCO file for validation (default: a share of the images)',
    )
    args = parser.parse_args(argv)
    _check(args)

    from rich.console import Console

    hide_known_warnings()

    from mmea.files import make_folder
    from mmea.new import new_detection, new_segmentation, show
    from mmea.new.summary import warn

    shared = dict(
        images=args.images,
        classes=args.classes,
        val_share=args.val_share,
        seed=args.seed,
        max_iters=args.max_iters,
    )
    if args.data.endswith('.json'):
        project = new_detection(
            args.data, args.out, val_file=args.val, **shared
        )
    else:
        project = new_segmentation(
            args.data,
            args.out,
            masks=args.masks,
            mask_suffix=args.mask_suffix,
            relabel=args.write_labels,
            force=args.force,
            **shared,
        )
    there = [str(path) for path in project.files if path.exists()]
    if there and not args.force:
        raise UserError(
            f'{", ".join(there)} would be replaced; choose another --out, or '
            'give --force'
        )
    make_folder(args.out.parent, '--out')
    console = Console(highlight=False)
    for summary in project.summaries:
        show(summary, console)
    for text in project.warnings:
        warn(text, console)
    project.write()
    console.print(
        f'{args.out} is written. Next:\n'
        f'  mmea check-data {args.out}\n'
        f'  mmea train {args.out}',
        markup=False,
        soft_wrap=True,
    )


def _check(args: argparse.Namespace) -> None:
    """Raise for arguments that do not go with the data or with each other."""
    coco = args.data.endswith('.json')
    for name, of_coco in (
        ('masks', False),
        ('mask_suffix', False),
        ('write_labels', False),
        ('val', True),
    ):
        if getattr(args, name) and coco != of_coco:
            kind = 'a COCO file' if of_coco else 'a folder of masks'
            raise UserError(
                f'--{name.replace("_", "-")} is for {kind}, DATA is '
                f'{args.data}'
            )
    if args.out.suffix != '.py':
        raise UserError(f'--out {args.out} must be a .py file')
    if "'" in os.path.abspath(args.out):
        raise UserError(
            f'--out {args.out} is below a folder or has a name with an '
            "apostrophe ('), which mmengine cannot read; choose another"
        )
    if args.out.exists() and not args.force:
        raise UserError(
            f'{args.out} is there already; choose another --out, or give '
            '--force'
        )
    if not 0 < args.val_share < 1:
        raise UserError(
            f'--val-share must be between 0 and 1, got {args.val_share}'
        )
    if args.max_iters < 2:
        raise UserError(f'--max-iters must be 2 or more, got {args.max_iters}')
