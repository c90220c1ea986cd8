"""``mmea report WORK_DIR [WORK_DIR2]``: what a training was, on one page."""

import argparse
from pathlib import Path

from mmea.cli.common import command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea report',
        description='Write a page of HTML about a training, or about two '
        'side by side: curves, metrics, images with truth and prediction, '
        'config, cost. It stands alone: nothing is loaded from elsewhere.',
    )
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='work_dir',
        type=Path,
        help='folder of a training; a second one is compared with it',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='the page (default: WORK_DIR/report.html, of two '
        'WORK_DIR/report_with_WORK_DIR2.html)',
    )
    parser.add_argument(
        '--num',
        type=int,
        default=12,
        help='images in the gallery, half of them the worst and half the '
        'best of up to 100 (default: %(default)s)',
    )
    parser.add_argument(
        '--no-gallery', action='store_true', help='leave the images out'
    )
    parser.add_argument(
        '--base',
        metavar='CONFIG',
        help='compare the config of the training with this one (default: '
        'the shipped one of the same name, or the base of an own one)',
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (default: a GPU, if there is)'
    )
    args = parser.parse_args(argv)
    if len(args.work_dirs) > 2:
        raise UserError(
            f'one work dir or two make a page, got {len(args.work_dirs)}'
        )
    if args.out and args.out.suffix.lower() not in ('.html', '.htm'):
        raise UserError(f'--out {args.out} must be a .html file')
    if args.num < 1:
        raise UserError(f'--num must be positive, got {args.num}')
    first, *others = args.work_dirs
    name = ''.join(f'_with_{folder.resolve().name}' for folder in others)
    out = args.out or first / f'report{name}.html'

    hide_known_warnings()

    from functools import partial

    from rich.progress import track

    from mmea.report import write_report

    notes = write_report(
        args.work_dirs,
        out,
        num=0 if args.no_gallery else args.num,
        base=args.base,
        device=args.device,
        track=partial(track, description='Looking at images'),
    )
    for note in notes:
        print(f'note: {note}')
    print(f'Report: {out}')
