"""What attention on points costs by their number, as a table and a plot.

    python -m benchmarks.point_layers

Layers of PCT and EAT, alone, 256 channels, one cloud, float32, one CPU thread;
what should take longer than a limit, or more memory than there is, is left
out. Writes cost.md, cost.csv and cost.png into benchmarks/results/points.

    python -m benchmarks.point_layers --packed

A batch of clouds of unequal size in external attention, padded and packed, by
the padding's share; into packed.md.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from mmea.compare.report import (
    amount,
    markdown,
    milliseconds,
    plot_costs,
    write_csv,
)
from mmea.files import write_text
from mmea.layers import OffsetAttention1d
from mmea.profiling import MODES, Limits, Step, profile_steps

OUT = Path(__file__).parent / 'results/points'
LAYERS = {
    'external, offset (EAT)': dict(external=True),
    'external, plain': dict(external=True, offset=False),
    'self, offset (PCT)': dict(),
    'self, plain': dict(offset=False),
}
CHANNELS = 256
CLOUDS, SHARES = 8, (0, 0.25, 0.5, 0.75)  # packed, and shares of padding
# Limits and plots count in sides of a map, whose squares are its tokens.
SIDES = (32, 56, 100, 178, 316)  # 1k to 100k points


def measure(sides, seconds, rounds):
    """Yield a row for each layer, mode and number of points."""
    torch.manual_seed(0)
    layers = {
        name: OffsetAttention1d(CHANNELS, **kwargs)
        for name, kwargs in LAYERS.items()
    }
    for mode in MODES:
        limits = Limits(seconds)
        for side in sides:
            x = torch.randn(1, CHANNELS, side**2)
            steps = {
                name: Step(layer, x, mode=mode)
                for name, layer in layers.items()
                if limits.allow(name, side)
            }
            for name, row in profile_steps(steps, rounds=rounds):
                limits.note(name, side, row)
                print(mode, side**2, name, milliseconds(row), flush=True)
                yield dict(member=name, size=side, mode=mode, **row)


def tables(rows):
    """Write time and memory of each mode over the points, and the growth."""
    text = []
    sides = sorted({row['size'] for row in rows})
    for mode in dict.fromkeys(row['mode'] for row in rows):
        lines = []
        for name in LAYERS:
            own = {
                row['size']: row
                for row in rows
                if (row['member'], row['mode']) == (name, mode)
            }
            cells = [
                _cell(own[side]) if side in own else '-' for side in sides
            ]
            ends = [growth(own, key) for key in ('seconds', 'memory')]
            lines.append([name, *cells, *ends])
        header = [
            'ms / MB',
            *(f'{side**2:,}' for side in sides),
            'growth of time',
            'of memory',
        ]
        text += [f'## {mode.capitalize()}', '', *markdown(header, lines)]
    return text


def measure_packed(points, rounds):
    """Return a line for each share of padding, in each mode."""
    lines = []
    for mode in MODES:
        for share in SHARES:
            lengths, masked, packed = make_packed(points, share)
            torch.manual_seed(0)
            layer = OffsetAttention1d(CHANNELS, external=True)
            steps = {
                name: Step(layer, x, mode=mode, run=partial(layer, **kwargs))
                for name, (x, kwargs) in (
                    ('mask', masked),
                    ('packed', packed),
                )
            }
            rows = dict(profile_steps(steps, rounds=rounds))
            ratio = rows['mask']['seconds'] / rows['packed']['seconds']
            lines.append(
                [
                    mode,
                    f'{1 - sum(lengths) / (len(lengths) * points):.0%}',
                    *(_cell(row) for row in rows.values()),
                    f'{ratio:.2f}',
                ]
            )
            print(*lines[-1], flush=True)
    return lines


def make_packed(points, share):
    """Return lengths, and input and options of the padded and packed batch.

    One cloud is full; the others are as much shorter as makes the share.
    """
    short = round(points * (1 - share * CLOUDS / (CLOUDS - 1)))
    lengths = [points] + [short] * (CLOUDS - 1)
    x = torch.randn(CLOUDS, CHANNELS, points)
    mask = torch.arange(points) < torch.tensor(lengths)[:, None]
    packed = x.mT[mask].t().contiguous().unsqueeze(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return lengths, (x, dict(mask=mask)), (packed, dict(offsets=offsets))


def _cell(row):
    return f'{milliseconds(row)} / {amount(row, "memory", 1e6)}'


def growth(own, key):
    """Fit the exponent in the number of points, from 3,000 on."""
    known = [side for side in own if side >= 56]
    if len(known) < 2:
        return '-'
    x = 2 * torch.tensor(known, dtype=torch.float64).log()
    y = torch.tensor([own[side][key] for side in known]).double().log()
    x, y = x - x.mean(), y - y.mean()
    return f'{float((x * y).sum() / x.square().sum()):.2f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sides', type=int, nargs='+', default=SIDES)
    parser.add_argument('--packed', action='store_true')
    parser.add_argument('--points', type=int, default=2048, help='if packed')
    parser.add_argument('--limit', type=float, default=10, metavar='SECONDS')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.packed:
        lines = measure_packed(args.points, args.rounds)
        header = ['mode', 'padding', 'mask', 'packed', 'times faster']
        text = [
            '# Clouds of unequal size, padded and packed',
            '',
            f'External, offset (EAT); {CLOUDS} clouds, the largest of '
            f'{args.points} points, {CHANNELS} channels, float32, one CPU '
            f'thread, torch {torch.__version__}; ms / MB of a step.',
            '',
            *markdown(header, lines),
        ]
        write_text(args.out / 'packed.md', '\n'.join(text))
        return
    rows = list(measure(sorted(set(args.sides)), args.limit, args.rounds))
    text = [
        '# Attention on points by their number',
        '',
        f'{CHANNELS} channels, one cloud, float32, one CPU thread, torch '
        f'{torch.__version__}; CPU time of a step, and the most memory beyond '
        'input and weights. Growth: the exponent in the number of points, '
        f'fitted from 3,136 on. "-": over {args.limit:g} s, or more memory '
        'than there was, told from smaller clouds.',
        '',
        *tables(rows),
        '![time and memory over points](cost.png)',
    ]
    write_csv(rows, args.out / 'cost.csv')
    plot_costs(rows, args.out / 'cost.png')
    write_text(args.out / 'cost.md', '\n'.join(text))


if __name__ == '__main__':
    main()
