"""Tables and plots of a comparison: those of the costs, and what all share."""

import csv
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmea.errors import UserError  # noqa: E402
from mmea.files import whole  # noqa: E402
from mmea.profiling import MODES  # noqa: E402

__all__ = [
    'TITLE',
    'amount',
    'check_free',
    'cost_tables',
    'markdown',
    'milliseconds',
    'plot_costs',
    'save_figure',
    'times_faster',
    'write_csv',
]


#: What every report begins with.
TITLE = '# Comparison of attention layers'


def check_free(path: Path) -> None:
    """Raise if a file is there that is no report of a comparison.

    Args:
        path (Path): Where a report is to be written.

    Raises:
        UserError: It would be lost.
    """
    if path.exists() and not path.read_bytes().startswith(TITLE.encode()):
        raise UserError(
            f'{path} is no report of a comparison and would be written over; '
            'choose another --out'
        )


def markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    """Write a table in Markdown, its lines and an empty one."""
    table = Table(*header, box=box.MARKDOWN)
    for line in lines:
        table.add_row(*line)
    text = io.StringIO()
    Console(file=text, width=10_000, markup=False).print(table)
    return [*text.getvalue().strip().splitlines(), '']


def write_csv(rows: list[dict], path: Path) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        whole(path) as part,
        open(part, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def milliseconds(row: dict) -> str:
    """Write a time and, of several processes, the range of theirs."""
    if 'fastest' not in row:
        return f'{row["seconds"] * 1e3:.3g}'
    middle, low, high = (
        f'{t:.0f}' if t >= 100 else f'{t:.3g}'
        for t in (row[k] * 1e3 for k in ('seconds', 'fastest', 'slowest'))
    )
    return f'{middle} ({low}-{high})'


def amount(row: dict, key: str, unit: float) -> str:
    return f'{row[key] / unit:.3g}' if key in row else '-'


def times_faster(row: dict, base: dict | None) -> str:
    return f'{base["seconds"] / row["seconds"]:.2f}' if base else '-'


def cost_tables(rows: list[dict], baseline: str | None = None) -> list[str]:
    """Write what each member costs at each size.

    Args:
        rows (list[dict]): Of measure_costs; with fastest and slowest the
            times show their range.
        baseline (str, optional): A member that the times are compared with.
    """
    found = {(r['member'], r['mode'], r['size']): r for r in rows}
    members = list(dict.fromkeys(row['member'] for row in rows))
    sizes = sorted({row['size'] for row in rows})
    text: list[str] = []

    def add(
        title: str,
        mode: str,
        cell: Callable[[dict], str],
        **last: Callable[[dict], str],
    ) -> None:
        lines = []
        for member in members:
            own = {
                s: found[member, mode, s]
                for s in sizes
                if (member, mode, s) in found
            }
            if own:
                cells = [cell(own[s]) if s in own else '-' for s in sizes]
                ends = [write(own) for write in last.values()]
                lines.append([member, *cells, *ends])
        names = [name.replace('_', ' ') for name in last]
        header = ['', *(f'{s} x {s}' for s in sizes), *names]
        text.extend([f'### {title}', '', *markdown(header, lines)])

    def number(key: str, unit: float) -> Callable[[dict], str]:
        return partial(amount, key=key, unit=unit)

    def parameters(own: dict[int, dict]) -> str:
        return f'{own[min(own)]["parameters"] / 1e6:.3f}'

    def growth(own: dict[int, dict]) -> str:
        return _growth({size: row['seconds'] for size, row in own.items()})

    def faster(row: dict) -> str:
        base = found.get((baseline, row['mode'], row['size']))
        return times_faster(row, base)

    add('GMAC', 'inference', number('macs', 1e9), M_params=parameters)
    for mode in MODES:
        add(f'Time, {mode}, ms', mode, milliseconds, growth=growth)
        if baseline:
            add(f'Times faster than {baseline}, {mode}', mode, faster)
        add(f'Peak memory, {mode}, MB', mode, number('memory', 1e6))
    kept = number('saved', 1e6)
    add('Kept for the backward pass, MB', 'training', kept)
    text += [
        'Growth is the exponent of the time in the number of tokens between',
        'the two largest sizes that a member was measured at; - was left out,',
        'as beyond the limits of time or memory. MB are 1e6 bytes, beyond the',
        'input and the weights.',
        '',
    ]
    return text


def _growth(times: dict[int, float]) -> str:
    if len(times) < 2:
        return '-'
    (a, first), (b, last) = list(times.items())[-2:]
    return f'{math.log(last / first) / math.log(b * b / (a * a)):.2f}'


def plot_costs(rows: list[dict], path: Path) -> None:
    """Time and memory over tokens, inference and training."""
    members = list(dict.fromkeys(row['member'] for row in rows))
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    figure, axes = plt.subplots(
        len(modes), 2, figsize=(11, 4.2 * len(modes)), squeeze=False
    )
    colours = plt.get_cmap('tab20')
    for line, mode in zip(axes, modes):
        for i, member in enumerate(members):
            own = [
                r for r in rows if (r['mode'], r['member']) == (mode, member)
            ]
            tokens = [row['size'] ** 2 for row in own]
            colour = colours(i % 20)
            style = dict(marker='o', color=colour, label=member)
            line[0].plot(tokens, [r['seconds'] * 1e3 for r in own], **style)
            low, high = (
                [r.get(k, r['seconds']) * 1e3 for r in own]
                for k in ('fastest', 'slowest')
            )
            line[0].fill_between(tokens, low, high, color=colour, alpha=0.2)
            line[1].plot(tokens, [r['memory'] / 1e6 for r in own], **style)
        for axis, unit in zip(line, ('time, ms', 'peak memory, MB')):
            axis.set(
                xscale='log',
                yscale='log',
                xlabel='tokens',
                ylabel=unit,
                title=mode,
            )
            axis.grid(True, which='both', alpha=0.2)
    axes[0][0].legend(fontsize=7)
    save_figure(figure, path)


def save_figure(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    with whole(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)
