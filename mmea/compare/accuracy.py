"""What members reached: tables and a plot."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmea.compare.pairs import paired_difference
from mmea.compare.report import markdown, plt, save_figure

__all__ = ['accuracy_tables', 'in_points', 'plot_accuracy', 'summarise']


#: Of each metric and member, its value by seed.
Values = dict[str, dict[str, dict[int, float]]]


def in_points(rows: list[dict]) -> list[dict]:
    """Turn COCO's AP, fractions, into points of 100 as mmseg's mIoU is.

    Args:
        rows (list[dict]): Results of runs; they are not changed.
    """
    return [
        dict(
            row,
            metrics={
                name: 100 * value if name.startswith('coco/') else value
                for name, value in row['metrics'].items()
            },
        )
        for row in rows
    ]


def accuracy_tables(
    rows: list[dict], metrics: list[str], against: list[str]
) -> list[str]:
    """Write what each member reached, seed by seed and class by class.

    Args:
        rows (list[dict]): Results of runs, as
            :func:`mmea.compare.run_files.find_results` reads them, metrics in
            points.
        metrics (list[str]): Those of the main table; the first one is
            compared seed by seed.
        against (list[str]): Members that the others are compared with.
    """
    first = metrics[0]
    values: Values = {}
    for row in rows:
        for name, value in row['metrics'].items():
            own = values.setdefault(name, {}).setdefault(row['member'], {})
            # NaN is the IoU of a class that is neither there nor found.
            if math.isfinite(value):
                own[row['seed']] = value
    text = _main_table(rows, metrics, values)
    members = list(values[first])
    if len(members) > 1:
        text += [
            f'### {first}, seed by seed',
            '',
            'Mean of the differences between runs of the same seed, and its '
            "95 % confidence interval by Student's distribution (none from "
            'one seed).',
            '',
            *markdown(
                ['', *(f'minus {base}' for base in against)],
                [
                    [m, *(_difference(values[first], m, b) for b in against)]
                    for m in members
                ],
            ),
        ]
    classes = {
        name.removeprefix('IoU/')
        .removeprefix('coco/')
        .removesuffix('_precision'): own
        for name, own in values.items()
        if name.startswith('IoU/') or name.endswith('_precision')
    }
    if classes:
        text += _class_table('Each class', classes, members, _mean)
    for base in against if classes else ():
        others = [m for m in members if m != base]
        title = f'Each class, minus {base}'
        minus = partial(_difference, base=base)
        if others:
            text += _class_table(title, classes, others, minus)
    return text


def _main_table(
    rows: list[dict], metrics: list[str], values: Values
) -> list[str]:
    first = metrics[0]
    lines = []
    for member in values[first]:
        own = [row for row in rows if row['member'] == member]
        lines.append(
            [
                member,
                f'{own[0]["parameters"] / 1e6:.4f}',
                f'{own[0]["macs"] / 1e9:.3f}',
                *(summarise([*values[m][member].values()]) for m in metrics),
                ', '.join(f'{v:.2f}' for v in values[first][member].values()),
                summarise(
                    [
                        row['seconds_per_iteration']
                        for row in own
                        if row['seconds_per_iteration'] is not None
                    ]
                ),
                f'{max(row["peak_memory"] for row in own):.0f}',
            ]
        )
    header = ['attention', 'M params', 'GMAC/image', *metrics]
    header += [f'{first} of each seed', 's/iteration', 'peak memory, MB']
    lengths = sorted({row['length'] for row in rows if 'length' in row})
    trained = f'Trained: {", ".join(lengths)}.' if lengths else ''
    threads = sorted({row['threads'] for row in rows if row.get('threads')})
    if threads:
        trained += f' Threads of a run: {", ".join(map(str, threads))}.'
    return [
        *([trained.strip(), ''] if trained else []),
        'Mean ± sample standard deviation over the seeds. Parameters and '
        'multiply-accumulates are those of the whole model, the latter for '
        'the first image of the evaluation; memory is that of the training '
        'process.',
        '',
        *markdown(header, lines),
    ]


def _class_table(
    title: str,
    classes: dict[str, dict[str, dict[int, float]]],
    members: list[str],
    cell: Callable[[dict[str, dict[int, float]], str], str],
) -> list[str]:
    lines = [
        [name, *(cell(own, m) for m in members)]
        for name, own in classes.items()
    ]
    return [f'### {title}', '', *markdown(['', *members], lines)]


def _difference(
    values: dict[str, dict[int, float]], member: str, base: str
) -> str:
    if member == base:
        return '-'
    found = paired_difference(values.get(member, {}), values.get(base, {}))
    return '-' if found is None else str(found)


def _mean(values: dict[str, dict[int, float]], member: str) -> str:
    own = list(values.get(member, {}).values())
    if not own:
        return '-'
    mean = f'{statistics.mean(own):.2f}'
    return mean if len(own) < 2 else f'{mean} ± {statistics.stdev(own):.2f}'


def summarise(values: list[float]) -> str:
    """Mean and, of several, sample standard deviation and number."""
    if not values:
        return '-'
    mean = statistics.mean(values)
    if len(values) == 1:
        return f'{mean:.2f} (1 run)'
    spread = statistics.stdev(values)
    return f'{mean:.2f} ± {spread:.2f} ({len(values)} runs)'


def plot_accuracy(
    results: dict[str, list[float]], name: str, path: Path
) -> None:
    """One line for each member: its runs as dots, their mean as a bar."""
    figure, axis = plt.subplots(figsize=(8, 1 + 0.4 * len(results)))
    for i, values in enumerate(results.values()):
        axis.plot(values, [i] * len(values), 'o', color='tab:blue', alpha=0.7)
        mean = statistics.mean(values)
        axis.plot([mean] * 2, [i - 0.3, i + 0.3], color='tab:red')
    axis.set_yticks(range(len(results)), list(results))
    axis.invert_yaxis()
    axis.set_xlabel(f'{name}; dots are runs, bars their means')
    axis.grid(True, axis='x', alpha=0.3)
    save_figure(figure, path)
