"""The log of a training, from all of its starts."""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Real
from pathlib import Path

from mmea.errors import UserError

__all__ = ['Log', 'Start', 'read_log']

#: Of a validation, what is no metric.
TIMES = ('time', 'data_time', 'step', 'epoch', 'iter', 'memory')
#: Keys of one class's value, and the column that it belongs in.
CLASS_KEYS = (
    (re.compile('(?:.*/)?IoU/(.+)'), 'IoU'),
    (re.compile('(?:.*/)?(.+)_precision'), 'AP'),
)
STAMP = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ')


@dataclass
class Start:
    """One start of a training; a resumed one has several.

    Attributes:
        name (str): Its timestamp, the folder of its log.
        train, val (list[dict]): Lines of the log; those of a validation have
            ``metrics`` and ``classes``, of each column each class's value.
        by_epoch (bool): Whether validations are told by the epoch.
        seconds (float): From the first to the last line of its text.
        environment (dict[str, str]): As mmengine wrote it down.
    """

    name: str
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)
    by_epoch: bool = False
    seconds: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Log:
    """All starts as one: what a later start has done again counts once.

    Attributes:
        starts (list[Start]): Those that trained, the oldest first. A run that
            is shorter than the interval of its log has no line.
        train, val (list[dict]): As of a :class:`Start`.
        unit (str): Of a validation's ``step``: 'iteration' or 'epoch'.
        notes (list[str]): What was passed over.
    """

    starts: list[Start]
    train: list[dict]
    val: list[dict]
    unit: str
    notes: list[str]

    def curve(self, key: str) -> list[tuple[int, float]]:
        """Give the points of a training's value, NaN where it has none."""
        return [
            (row['step'], float(row[key]))
            for row in self.train
            if isinstance(row.get(key), Real)
        ]

    def metric(self, key: str) -> list[tuple[int, float]]:
        """Give the points of a metric of the validations."""
        return [
            (row['step'], row['metrics'][key])
            for row in self.val
            if key in row['metrics']
        ]


def read_log(work_dir: Path) -> Log:
    """Read the log of a training of mmengine.

    Args:
        work_dir (Path): Its folder, which holds ``TIMESTAMP/vis_data``.

    Returns:
        Log: Of all starts.

    Raises:
        UserError: No such folder, no log, one of another version, a damaged
            line, or no iteration.
    """
    if not work_dir.is_dir():
        raise UserError(f'no such work dir: {work_dir}')
    files = [
        path
        for path in sorted(work_dir.glob('*/vis_data/*.json'))
        if path.stem == path.parts[-3]
    ]
    saved = any(work_dir.glob('*.pth'))
    if not files and saved:  # so short that nothing was logged
        files = [
            path.parent / 'vis_data' / f'{path.stem}.json'
            for path in sorted(work_dir.glob('*/*.log'))
            if path.stem == path.parent.name
        ]
    if not files:
        if any(work_dir.glob('*.log.json')):
            raise UserError(
                f'{work_dir} holds the log of another version, mmcv 1; mmea '
                'reads those of mmengine'
            )
        raise UserError(
            f'{work_dir} is no work dir of a training: it has no '
            'TIMESTAMP/vis_data/TIMESTAMP.json; name the folder that mmea '
            'train wrote to'
        )
    notes: list[str] = []
    starts = [_read_start(path, notes) for path in files]
    last = starts[-1]
    starts = [start for start in starts if start.train or start.val]
    if not starts and saved:
        starts = [last]
    if not any(start.train for start in starts):
        notes.append(
            f'{work_dir} is shorter than default_hooks.logger.interval: no '
            'loss was logged'
        )
    if not starts:
        raise UserError(
            f'{work_dir} has no iteration in its log yet; train longer, or '
            'lower default_hooks.logger.interval'
        )
    train: list[dict] = []
    val: list[dict] = []
    epochs = any('epoch' in row for row in starts[-1].train[:1])
    unit = 'epoch' if epochs or starts[-1].by_epoch else 'iteration'
    for start in starts:
        first = (start.train or start.val or [dict(step=0)])[0]
        if start.train:
            train = [row for row in train if row['step'] < first['step']]
        begun = first.get('epoch', first['step'])
        val = [row for row in val if row['step'] < begun]
        train += start.train
        val += start.val
    return Log(starts, train, val, unit, notes)


def _read_start(path: Path, notes: list[str]) -> Start:
    start = Start(path.stem)
    lines = ['']
    if path.is_file():
        lines = path.read_text(encoding='utf-8', errors='replace').split('\n')
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):  # it was killed while it wrote
                notes.append(f'{path.name} ends in the middle of a line')
                continue
            raise UserError(
                f'{path}:{number} is damaged, no line of JSON; delete the line'
            ) from None
        if not isinstance(row, dict) or not isinstance(row.get('step'), int):
            raise UserError(
                f'{path}:{number} has no step: the log is of another version; '
                'mmea reads those of mmengine 0.10'
            )
        if 'iter' in row:
            start.train.append(row)
        elif row['step']:  # 0, where nothing was trained
            start.val.append(_sort_out(row))
    text = path.parents[1] / f'{path.stem}.log'
    if text.is_file():
        _read_text(text.read_text('utf-8', 'replace').splitlines(), start)
    return start


def _sort_out(row: dict) -> dict:
    """Part the metrics of a validation from those of each class."""
    metrics: dict[str, float] = {}
    classes: dict[str, dict[str, float]] = {}
    for key, value in row.items():
        if key in TIMES or not isinstance(value, Real):
            continue
        for pattern, column in CLASS_KEYS:
            if match := pattern.fullmatch(key):
                classes.setdefault(column, {})[match[1]] = float(value)
                break
        else:
            # COCO's -1 stands for a mean over nothing.
            nothing = 'mAP' in key and value == -1
            metrics[key] = math.nan if nothing else float(value)
    return dict(step=row['step'], metrics=metrics, classes=classes)


def _read_text(lines: list[str], start: Start) -> None:
    """Add what the text of a log alone has. In place."""
    stamps = [m[1] for m in map(STAMP.match, lines) if m]
    if stamps:
        begin, end = (
            datetime.strptime(stamp, '%Y/%m/%d %H:%M:%S')
            for stamp in (stamps[0], stamps[-1])
        )
        start.seconds = (end - begin).total_seconds()
    start.environment = _environment(lines)
    start.by_epoch = any(re.search(r'Epoch\(val\) ', line) for line in lines)
    tables: list[dict[str, dict[str, float]]] = []
    table: list[list[str]] = []
    for line in lines:
        if line.startswith('|'):
            table.append([cell.strip() for cell in line.split('|')[1:-1]])
        elif re.search(r'(?:Iter|Epoch)\(val\) .*\[(\d+)/\1\]  ', line):
            tables.append(_columns(table))
            table = []
    # The table comes before the line of the validation's metrics.
    for row, columns in zip(start.val[::-1], tables[::-1]):
        row['classes'] = row['classes'] or columns


def _columns(table: list[list[str]]) -> dict[str, dict[str, float]]:
    """Read mmseg's table: 'Class', then a column for each metric."""
    if not table or table[0][0] != 'Class':
        return {}
    header, *rows = table
    return {
        name: {row[0]: float(row[i]) for row in rows if len(row) > i}
        for i, name in enumerate(header)
        if i
    }


def _environment(lines: list[str]) -> dict[str, str]:
    found = {}
    inside = False
    for line in lines:
        inside = inside or line.strip() == 'System environment:'
        if inside and line.startswith('-----'):
            break
        match = inside and re.fullmatch(r'    (\S[^:]*): (.+)', line)
        if match and 'compiling' not in match[1]:
            found[match[1]] = match[2]
    return found
