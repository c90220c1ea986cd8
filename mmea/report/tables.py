"""The tables of a page: of one training, or of two and their difference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmea.engine.data_checks.files import data_names

from .run import Run

__all__ = [
    'Table',
    'class_table',
    'cost_table',
    'environment_table',
    'facts_table',
    'metric_table',
]

NONE = '–'


@dataclass
class Table:
    """Text in rows; the first column names the row.

    Attributes:
        header (list[str]): Of the columns; empty for none.
        rows (list[list[str]]): Text of the cells.
        numbers (bool): Whether all but the first are numbers.
    """

    header: list[str]
    rows: list[list[str]]
    numbers: bool = True


def facts_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Say what was trained, how long, and how well."""
    facts = [_facts(run) for run in runs]
    rows = [[key, *(fact[key] for fact in facts)] for key in facts[0]]
    return Table(['', *names] if runs[1:] else [], rows, numbers=False)


def _facts(run: Run) -> dict[str, str]:
    log, cfg = run.log, run.cfg or {}
    starts = ', '.join(
        f'{s.name} ({s.train[0]["step"]} to {s.train[-1]["step"]})'
        if s.train
        else s.name
        for s in log.starts
    )
    model = cfg.get('model') or {}
    data = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    return {
        'task': run.task,
        'best': run.best_text,
        'length': run.length,
        'model': _kind(model.get('model') or model),
        'data set': ' and '.join(data_names(data)) if data else NONE,
        'checkpoint': run.checkpoint or NONE,
        'starts, with iterations': starts,
    }


def _kind(cfg: dict) -> str:
    kind = cfg.get('type', NONE)
    return getattr(kind, '__name__', str(kind))


def metric_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Write the metrics of the best validation of each run."""
    keys = dict.fromkeys(key for run in runs for key in run.metrics)
    found = [run.best_row['metrics'] for run in runs]
    return _numbers('metric', list(keys), found, names)


def class_table(runs: Sequence[Run], names: Sequence[str]) -> Table | None:
    """Write what each class reached in the best validation of each run.

    Of one run each measure has a column; of two the first is compared.

    Returns:
        Table | None: None where no run has any.
    """
    found = [run.best_row['classes'] for run in runs]
    columns = list(dict.fromkeys(c for classes in found for c in classes))
    if not columns:
        return None
    if not runs[1:]:
        values = [found[0][column] for column in columns]
        keys = list(dict.fromkeys(key for column in values for key in column))
        rows = [[k, *(_number(v.get(k)) for v in values)] for k in keys]
        return Table(['class', *columns], rows)
    own = [classes.get(columns[0], {}) for classes in found]
    keys = list(dict.fromkeys(key for values in own for key in values))
    titles = [f'{columns[0]}, {name}' for name in names]
    return _numbers('class', keys, own, titles)


def _numbers(
    title: str, keys: list[str], found: list[dict], names: Sequence[str]
) -> Table:
    rows = []
    for key in keys:
        values = [own.get(key) for own in found]
        row = [key, *map(_number, values)]
        if len(values) == 2:
            row.append(_difference(*values))
        rows.append(row)
    last = ['difference'] if len(found) == 2 else []
    return Table([title, *names, *last], rows)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    return f'{value:.2f}' if abs(value) >= 1 else f'{value:.3f}'


def _difference(old: float | None, new: float | None) -> str:
    if old is None or new is None or math.isnan(new - old):
        return NONE
    text = f'{new - old:+.2f}' if abs(old) >= 1 else f'{new - old:+.3f}'
    return text.replace('-', '−')


def cost_table(
    costs: Sequence[list[tuple[str, int, int]]], names: Sequence[str]
) -> Table:
    """Write what the parts of the models cost."""
    parts = list(dict.fromkeys(row[0] for rows in costs for row in rows))
    parts.sort(key=lambda part: part == 'all')
    rows = []
    for part in parts:
        own = [
            next((row[1:] for row in rows if row[0] == part), None)
            for rows in costs
        ]
        cells = [f'{o[0] / 1e6:.3f}' if o else NONE for o in own]
        cells += [f'{o[1] / 1e9:.3f}' if o else NONE for o in own]
        rows.append([part, *cells])
    ends = [f', {name}' for name in names] if costs[1:] else ['']
    units = 'M parameters', 'GMAC'
    return Table(['part', *(u + end for u in units for end in ends)], rows)


def environment_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Write the environments of the trainings."""
    keys = dict.fromkeys(key for run in runs for key in run.environment)
    rows = [[k, *(r.environment.get(k, NONE) for r in runs)] for k in keys]
    return Table(['', *names] if runs[1:] else [], rows, numbers=False)
