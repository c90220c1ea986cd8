"""Tables (Markdown, CSV) and plots of what was measured."""

import csv
import math
import statistics
from pathlib import Path

import matplotlib

from mmea.compare.report import markdown

from . import blocks, multihead

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

COLUMNS = (
    'part',
    'size',
    'mode',
    'name',
    'seconds',
    'fastest',
    'slowest',
    'processes',
    'memory',
    'saved',
    'macs',
    'parameters',
)


def write(rows: list[dict], conditions: dict[str, str], out: Path) -> Path:
    """Write README.md, table.csv and plots; return their folder.

    The folder below ``out`` is named after the device, the dtype and the
    number of threads, so that one run does not overwrite another's.
    """
    names = [conditions['device'], conditions['dtype']]
    if conditions['device'] == 'cpu':
        names.append(f'{conditions["threads"]}-thread')
    folder = out / '-'.join(names)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'table.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    by_part = {}
    for row in rows:
        by_part.setdefault(row['part'], []).append(row)
    text = ['# Benchmark', '']
    text += [f'* {name}: {value}' for name, value in conditions.items()]
    text += [
        '',
        'Times in ms: median over the processes of the median of each, the',
        'contestants taking turns; in brackets the fastest and the slowest',
        'process. Ratios are of the same run, and to the published form where',
        'the column names no other; times of another machine are others.',
        'Memory in MB (1e6 bytes) beyond the input, the weights and, in',
        "training, the weights' gradients of the step before.",
        '',
    ]
    if 'blocks' in by_part:
        text += block_tables(by_part['blocks'])
        plot_blocks(by_part['blocks'], folder / 'blocks.png')
        text += ['![time and memory over tokens](blocks.png)', '']
    if 'segmentors' in by_part:
        text += segmentor_tables(by_part['segmentors'])
    if 'insertions' in by_part:
        text += insertion_table(by_part['insertions'])
    if 'multihead' in by_part:
        text += multihead_table(by_part['multihead'])
    if 'surroundings' in by_part:
        text += surrounding_table(by_part['surroundings'])
    path = folder / 'README.md'
    path.write_text('\n'.join(text).rstrip() + '\n', encoding='utf-8')
    return folder


def milliseconds(row: dict) -> str:
    """Median and range, three digits each."""
    numbers = [row[k] * 1e3 for k in ('seconds', 'fastest', 'slowest')]
    middle, low, high = (
        f'{n:.0f}' if n >= 100 else f'{n:.3g}' for n in numbers
    )
    return f'{middle} ({low}-{high})'


def block_tables(rows: list[dict]) -> list[str]:
    text = []
    for mode in dict.fromkeys(row['mode'] for row in rows):
        found = {
            (row['name'], row['size']): row
            for row in rows
            if row['mode'] == mode
        }
        names = list(dict.fromkeys(name for name, _ in found))
        sizes = sorted({size for _, size in found})
        text += [f'## The block, {mode}', '']
        lines = []
        for name in names:
            line = [name]
            for size in sizes:
                row = found.get((name, size))
                line.append(milliseconds(row) if row else '-')
            line.append(growth(found, name, sizes))
            lines.append(line)
        text += markdown(
            ['ms', *[f'{size} x {size}' for size in sizes], 'exponent'], lines
        )
        text += [
            'The exponent is the slope of log time over log tokens from '
            '64 x 64 on; - is left out, as beyond the limits of the run.',
            '',
        ]
        base = blocks.PUBLISHED
        lines = []
        for name in names:
            line = [name]
            for size in sizes:
                row, other = found.get((name, size)), found.get((base, size))
                line.append(
                    f'{other["seconds"] / row["seconds"]:.2f}'
                    if row and other
                    else '-'
                )
            for size in sizes:
                row = found.get((name, size))
                line.append(f'{row["memory"] / 1e6:.3g}' if row else '-')
            last = [found[name, s] for s in sizes if (name, s) in found][-1]
            if mode == 'training':
                line.append(f'{last["saved"]:.2f} ({last["size"]})')
            line.append(f'{last["parameters"] / 1e6:.3f}')
            lines.append(line)
        header = ['']
        header += [f'times faster, {size}' for size in sizes]
        header += [f'MB, {size}' for size in sizes]
        if mode == 'training':
            header.append('saved (at)')
        header.append('M params')
        text += markdown(header, lines)
    text += [
        'saved (at): kept for the backward pass beyond input, output and',
        'parameters, in maps of C x N, at the largest size measured.',
        '',
    ]
    return text


def growth(found: dict, name: str, sizes: list[int]) -> str:
    """Exponent of time in the number of tokens, by least squares."""
    points = [
        (math.log(size**2), math.log(found[name, size]['seconds']))
        for size in sizes
        if size >= 64 and (name, size) in found
    ]
    if len(points) < 2:
        return '-'
    return f'{statistics.linear_regression(*zip(*points)).slope:.2f}'


def segmentor_tables(rows: list[dict]) -> list[str]:
    text = ['## Whole segmentors, one crop of 512 x 512', '']
    lines = []
    for name in dict.fromkeys(row['size'] for row in rows):
        own = {(r['name'], r['mode']): r for r in rows if r['size'] == name}
        for form in dict.fromkeys(form for form, _ in own):
            line = [name, form]
            for mode in ('inference', 'training'):
                row = own[form, mode]
                line.append(milliseconds(row))
                line.append(f'{row["memory"] / 1e6:.0f}')
            first = own[form, 'inference']
            line.append(f'{first["macs"] / 1e9:.2f}')
            line.append(f'{first["parameters"] / 1e6:.2f}')
            lines.append(line)
    text += markdown(
        [
            'segmentor',
            'attention',
            'inference, ms',
            'inference, MB',
            'training, ms',
            'training, MB',
            'GMAC',
            'M params',
        ],
        lines,
    )
    return text


def insertion_table(rows: list[dict]) -> list[str]:
    found = {(r['size'], r['name'], r['mode']): r for r in rows}
    lines = []
    for place, kind in dict.fromkeys((r['size'], r['name']) for r in rows):
        inference = found[place, kind, 'inference']
        training = found[place, kind, 'training']
        lines.append(
            [
                place,
                kind,
                f'{inference["parameters"] / 1e6:.3f}',
                f'{inference["macs"] / 1e9:.2f}',
                milliseconds(inference),
                f'{inference["memory"] / 1e6:.0f}',
                milliseconds(training),
                f'{training["memory"] / 1e6:.0f}',
            ]
        )
    return [
        '## Places in a detector, one image of 800 x 1333',
        '',
        'The attention alone, at all maps of the place.',
        '',
        *markdown(
            [
                'place',
                'attention',
                'M params',
                'GMAC',
                'inference, ms',
                'inference, MB',
                'training, ms',
                'training, MB',
            ],
            lines,
        ),
    ]


def multihead_table(rows: list[dict]) -> list[str]:
    found = {(r['size'], r['name'], r['mode']): r for r in rows}
    lines = []
    for size, kind in dict.fromkeys((r['size'], r['name']) for r in rows):
        line = [size, kind]
        for mode in ('inference', 'training'):
            row, rival = (
                found[size, name, mode] for name in (kind, multihead.SELF)
            )
            line += [
                f'{row["macs"] / 1e9:.3f}',
                milliseconds(row),
                f'{rival["seconds"] / row["seconds"]:.2f}',
                f'{row["memory"] / 1e6:.1f}',
            ]
        line.append(f'{row["parameters"] / 1e6:.3f}')
        lines.append(line)
    header = ['channels x tokens', 'attention']
    for mode in ('inference', 'training'):
        header += [
            f'{mode}, GMAC',
            f'{mode}, ms',
            f'{mode}, times faster than self-attention',
            f'{mode}, MB',
        ]
    return [
        '## Multi-head, one sequence of tokens, heads of 64 channels',
        '',
        *markdown([*header, 'M params'], lines),
    ]


def surrounding_table(rows: list[dict]) -> list[str]:
    found = {(r['size'], r['mode'], r['name']): r for r in rows}
    lines = []
    for size, mode in dict.fromkeys((r['size'], r['mode']) for r in rows):
        plain = found[size, mode, 'as it is']
        folded = found[size, mode, 'folded']
        lines.append(
            [
                size,
                mode,
                milliseconds(plain),
                milliseconds(folded),
                f'{plain["seconds"] / folded["seconds"]:.2f}',
                f'{plain["macs"] / folded["macs"]:.2f}',
            ]
        )
    return [
        '## One more projection in the memories',
        '',
        *markdown(
            [
                'where',
                'mode',
                'as it is, ms',
                'folded, ms',
                'times faster',
                'times fewer MACs',
            ],
            lines,
        ),
    ]


def plot_blocks(rows: list[dict], path: Path):
    """Time and memory over tokens, one row of plots for each mode."""
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    names = list(dict.fromkeys(row['name'] for row in rows))
    figure, axes = plt.subplots(
        len(modes), 2, figsize=(11, 4.2 * len(modes)), squeeze=False
    )
    colours = dict(zip(names, plt.get_cmap('tab10').colors))
    for line, mode in zip(axes, modes):
        for name in names:
            own = [r for r in rows if (r['mode'], r['name']) == (mode, name)]
            if not own:
                continue
            tokens = [row['size'] ** 2 for row in own]
            style = dict(
                marker='o',
                label=name,
                color=colours[name],
                linewidth=2.5 if name == blocks.OURS else 1.2,
            )
            times = [row['seconds'] * 1e3 for row in own]
            line[0].plot(tokens, times, **style)
            line[0].fill_between(
                tokens,
                [row['fastest'] * 1e3 for row in own],
                [row['slowest'] * 1e3 for row in own],
                color=colours[name],
                alpha=0.2,
            )
            memory = [row['memory'] / 1e6 for row in own]
            line[1].plot(tokens, memory, **style)
        for axis, unit in zip(line, ('time, ms', 'peak extra memory, MB')):
            axis.set(
                xscale='log',
                yscale='log',
                xlabel='tokens',
                ylabel=unit,
                title=mode,
            )
            axis.grid(True, which='both', alpha=0.2)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
