"""``mmea flops CONFIG``: what a model costs, part by part."""

import argparse
import json
from typing import Any

from mmea.cli.common import add_changes, command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea flops',
        description='Count parameters and multiply-accumulates (MACs; one is '
        'two FLOPs) of a model in a test, of its parts, and of each of its '
        'attention layers.',
    )
    parser.add_argument('config', help='as in train')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='of the image as the net gets it (default: what the config '
        'makes of one)',
    )
    add_changes(parser)
    parser.add_argument(
        '--json', action='store_true', help='print it for programs'
    )
    args = parser.parse_args(argv)
    if args.shape and min(args.shape) < 1:
        raise UserError(
            f'--shape must be positive, got {" ".join(map(str, args.shape))}'
        )
    hide_known_warnings()

    from mmea.complexity import complexity
    from mmea.engine.config import load_config

    cfg = load_config(
        args.config, swap=args.swap_attention, options=args.cfg_options
    )
    found = complexity(cfg, args.shape)
    if args.json:
        print(json.dumps(found, indent=2, sort_keys=True))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    height, width = found['size']
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f'{height} x {width}', overflow='fold')
    table.add_column('type', overflow='fold')
    for name in ('parameters', 'GMACs', 'share'):
        table.add_column(name, justify='right', no_wrap=True)
    table.add_row(
        'whole', *_cells(found, found), style='bold', end_section=True
    )
    for group in ('parts', 'attention'):
        for name, row in found[group].items():
            table.add_row(name, *_cells(row, found))
        table.add_section()
    console = Console(highlight=False)
    console.print(table)
    if found['trained'] != found['parameters']:
        console.print(
            f'Trained are {found["trained"]:,} of {found["parameters"]:,} '
            'parameters.'
        )
    console.print(
        'Counted are convolutions and matrix products; not counted: '
        + '; '.join(found['not_counted'])
        + '.',
        markup=False,
    )


def _cells(row: dict[str, Any], whole: dict[str, Any]) -> tuple[str, ...]:
    macs = row['macs']
    return (
        row['type'],
        f'{row["parameters"]:,}',
        '-' if macs is None else f'{macs / 1e9:,.3f}',
        '-' if macs is None else f'{macs / (whole["macs"] or 1):.1%}',
    )
