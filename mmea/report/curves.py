"""Curves of one training or two, as SVG that takes the page's colours."""

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .run import Run

__all__ = ['Curve', 'draw_curves']

#: Colours that stand for those of the page, whose style says them.
INK, GRID = '#010101', '#020202'
RUNS = ('#030303', '#040404')
NAMES = {INK: 'ink', GRID: 'line', RUNS[0]: 'run-0', RUNS[1]: 'run-1'}

#: Title and SVG.
Curve = tuple[str, str]


def draw_curves(runs: Sequence[Run]) -> dict[str, list[Curve]]:
    """Draw what the logs of one training or two hold, in a plot for each key.

    Args:
        runs (Sequence[Run]): In one axis.

    Returns:
        dict[str, list[Curve]]: Under 'Validation', the metrics that were
        measured more than once; under 'Training' the loss, its parts and the
        learning rate. A group without a plot is left out.
    """
    keys = dict.fromkeys(
        k for run in runs for row in run.log.train for k in row
    )
    losses = sorted(
        (k for k in keys if 'loss' in k), key=lambda k: k != 'loss'
    )
    if len(losses) == 2:  # the one part is the whole
        losses.pop()
    metrics = dict.fromkeys(key for run in runs for key in run.metrics)
    groups = {
        'Validation': [
            _metric(runs, key)
            for key in metrics
            if any(run.log.metric(key)[1:] for run in runs)
        ],
        'Training': [
            _scalar(runs, key) for key in (*losses, 'lr') if key in keys
        ],
    }
    return {name: group for name, group in groups.items() if group}


def _scalar(runs: Sequence[Run], key: str) -> Curve:
    lines = [run.log.curve(key) for run in runs]
    return key, _draw(key, lines, 'iteration')


def _metric(runs: Sequence[Run], key: str) -> Curve:
    lines = [run.log.metric(key) for run in runs]
    bests = [
        run.best if run.metrics and run.metrics[0] == key else None
        for run in runs
    ]
    return key, _draw(key, lines, runs[0].log.unit, bests)


def _draw(
    key: str,
    lines: Sequence[list[tuple[int, float]]],
    unit: str,
    bests: Sequence[tuple[int, float] | None] = (),
) -> str:
    style: Any = {
        'svg.fonttype': 'none',
        'svg.hashsalt': key,  # or ids of two plots may be the same
        'font.size': 9,
        'text.parse_math': False,
        **{
            name: INK
            for name in ('text.color', 'xtick.color', 'ytick.color',
                         'axes.labelcolor')
        },
        'axes.edgecolor': GRID,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure((3.6, 2.1), layout='constrained')
        ax = figure.add_subplot()
        for line, colour in zip(lines, RUNS):
            few = 'o' if len(line) < 30 else ''
            if line:
                ax.plot(*zip(*line), color=colour, lw=1.6, marker=few, ms=2.5)
        top = max((best[1] for best in bests if best), default=0.0)
        for best, colour in zip(bests, RUNS):
            if best:
                # Of two the higher one's value is above its point.
                above = len(bests) > 1 and best[1] == top
                ax.plot(*best, 'o', ms=7, mfc='none', mec=colour, mew=1.6)
                ax.annotate(
                    f'{best[1]:.4g}',
                    best,
                    (0, 7 if above else -7),
                    textcoords='offset points',
                    ha='center',
                    va='bottom' if above else 'top',
                    color=colour,
                    weight='bold',
                )
        ax.set_xlabel(unit)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.margins(y=0.2 if any(bests) else 0.08)
        ax.grid(color=GRID, lw=0.6)
        ax.spines[['top', 'right']].set_visible(False)
        ax.tick_params(length=0)
        return _to_svg(figure)


def _to_svg(figure: Figure) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(file, format='svg', transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index('<svg') :]
    for colour, name in NAMES.items():
        text = text.replace(colour, f'var(--{name})')
    # The page's width decides, not the figure's; its title is the page's too.
    text = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', '', text, count=2)
    return text.replace('<svg', '<svg aria-hidden="true"', 1)
