"""``mmea compare [CONFIG]``: attention layers beside each other."""

import argparse
from pathlib import Path

from mmea.cli.common import DictAction, command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea compare',
        description='Compare attention layers: what each costs on maps of '
        'growing size and, with a config, how well it does there, trained on '
        'the same data and seeds as the others. Writes a report of tables '
        'and plots.',
    )
    parser.add_argument(
        'config',
        nargs='?',
        help='train this config with each member (default: costs only)',
    )
    parser.add_argument(
        '--members',
        nargs='+',
        metavar='NAME[:KEY=VALUE,...]',
        help='layers, such as ExternalAttention2d:num_slots=32 NonLocal2d; '
        'none is no attention, control external attention that sees each '
        'pixel by itself (default: all layers on maps)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/compare_attention'),
        help='folder of the report and the runs; the report is on all runs '
        'in it, those of earlier commands too (default: %(default)s)',
    )
    cost = parser.add_argument_group('cost')
    cost.add_argument('--no-cost', action='store_true', help='train only')
    cost.add_argument('--channels', type=int, default=256)
    cost.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[16, 32, 64, 128],
        help='heights and widths of the maps in tokens',
    )
    cost.add_argument(
        '--limit',
        type=float,
        default=10.0,
        help='leave out steps that should take longer, in seconds',
    )
    train = parser.add_argument_group('training')
    train.add_argument('--seeds', type=int, nargs='+', default=[0])
    train.add_argument(
        '--against',
        nargs='+',
        metavar='MEMBER',
        help='members that the others are compared with, seed by seed '
        '(default: none and control, as far as they are members, or else the '
        'first)',
    )
    train.add_argument('--jobs', type=int, default=1, help='runs at a time')
    train.add_argument('--demo', action='store_true', help='as in train')
    train.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    args = parser.parse_args(argv)
    for name in ('channels', 'jobs', 'limit', 'sizes', 'seeds'):
        values = getattr(args, name)
        least = 0 if name == 'seeds' else 1e-9
        words = '>= 0' if name == 'seeds' else 'positive'
        for value in values if isinstance(values, list) else [values]:
            if not value >= least:  # nor NaN
                raise UserError(f'--{name} must be {words}, got {value}')
    if max(args.seeds) >= 2**32:  # of NumPy's generator
        raise UserError(f'--seeds must be below 2**32, got {max(args.seeds)}')
    if not args.config:
        for name in ('seeds', 'against', 'jobs', 'demo', 'cfg_options'):
            if getattr(args, name) != parser.get_default(name):
                option = name.replace('_', '-')
                raise UserError(f'--{option} needs a config to train')
    for name in ('members', 'seeds'):
        values = getattr(args, name) or []
        for value in values:
            if values.count(value) > 1:
                raise UserError(f'--{name} has {value} twice')

    hide_known_warnings()

    from mmea.compare.command import compare

    compare(args)
