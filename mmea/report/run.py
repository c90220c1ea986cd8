"""One training, as its work dir tells it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mmengine.config import Config

from mmea.engine.checkpoint import load_checkpoint, pick_checkpoint
from mmea.engine.config import load_config
from mmea.errors import UserError

from .log import Log, read_log

__all__ = ['Run', 'name_folders', 'read_run']

#: What a task is judged by, where the config names nothing to keep the best.
MAIN = ('mIoU', 'coco/segm_mAP', 'coco/bbox_mAP', 'accuracy/top1')
#: Of the environment, what says nothing: values, and what is of GPUs alone.
SILENT = {
    'MUSA available': ('False',),
    'Distributed launcher': ('none',),
    'numpy_random_seed': ('None',),
}
GPU = 'CUDA available'
OF_GPUS = ('GPU number', 'cudnn_benchmark', 'dist_cfg')
TASKS = dict(
    mmseg='semantic segmentation',
    mmdet='detection',
    mmpretrain='classification',
)


@dataclass
class Run:
    """A training.

    Attributes:
        folder (Path): Its work dir.
        name (str): Of the folder, with as many above it as tell two apart.
        log (Log): What it told on its way.
        cfg (Config | None): What it was trained with.
        checkpoint (str | None): Path of the best checkpoint, or the latest.
        environment (dict[str, str]): Of the machine that trained.
        notes (list[str]): What is not there, and why.
    """

    folder: Path
    name: str
    log: Log
    cfg: Config | None
    checkpoint: str | None
    environment: dict[str, str]
    notes: list[str]

    @property
    def task(self) -> str:
        scope = (self.cfg or {}).get('default_scope')
        if scope == 'mmdet' and any('segm' in key for key in self.metrics):
            return 'instance segmentation'
        return TASKS.get(scope or '', 'training')

    @property
    def is_gan(self) -> bool:
        return 'generator' in ((self.cfg or {}).get('model') or {})

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, the main one first."""
        names = [
            key
            for row in self.log.val
            for key, value in row['metrics'].items()
            if not math.isnan(value)
        ]
        wanted = self._checkpoint_hook().get('save_best')
        first = [n for n in (wanted, *MAIN, *names) if n in names][:1]
        return list(dict.fromkeys([*first, *names]))

    @property
    def lower_is_better(self) -> bool:
        return self._checkpoint_hook().get('rule') == 'less'

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the best validation, by the main metric."""
        if not self.metrics:
            return None
        points = [
            point
            for point in self.log.metric(self.metrics[0])
            if not math.isnan(point[1])
        ]
        pick = min if self.lower_is_better else max
        return pick(points, key=lambda point: point[1], default=None)

    @property
    def best_text(self) -> str:
        """Say how good it was, and when."""
        if not self.best:
            return 'not validated'
        step, value = self.best
        return f'{self.metrics[0]} {value:.4g} at {self.log.unit} {step}'

    @property
    def best_row(self) -> dict:
        """Give the best validation, or else the last, or an empty one."""
        steps = [self.best[0]] if self.best else []
        rows = [r for r in self.log.val if not steps or r['step'] in steps]
        return rows[-1] if rows else dict(step=None, metrics={}, classes={})

    @property
    def length(self) -> str:
        """Say how long it was, in iterations, epochs and time."""
        last = self.log.train[-1] if self.log.train else {}
        steps = [last['step']] if last else []
        validated = [row['step'] for row in self.log.val]
        if self.log.unit == 'iteration':
            # The last ones may be fewer than the interval of the log.
            steps += validated
        said = [f'{max(steps):,} iterations'] if steps else []
        if self.log.unit == 'epoch':
            epochs = [last['epoch']] if 'epoch' in last else validated
            said.append(f'{max(epochs)} epochs')
        seconds = sum(start.seconds for start in self.log.starts)
        if seconds:
            said.append(f'{timedelta(seconds=round(seconds))} h')
        return ', '.join(said) or 'not logged'

    def _checkpoint_hook(self) -> dict:
        hooks = (self.cfg or {}).get('default_hooks') or {}
        return hooks.get('checkpoint') or {}


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Name folders by the last parts of their paths, as few as differ."""
    parts = [folder.resolve().parts for folder in folders]
    number = 1
    while number < max(map(len, parts)):
        if len({p[-number:] for p in parts}) == len(parts):
            break
        number += 1
    return ['/'.join(p[-number:]) for p in parts]


def read_run(work_dir: Path, name: str) -> Run:
    """Read what a work dir holds of a training.

    Args:
        work_dir (Path): Its folder.
        name (str): What the page calls it.

    Returns:
        Run: Without config or checkpoint, where the folder has none; its
        notes say so.

    Raises:
        UserError: As of :func:`.log.read_log`, or the config or the
            checkpoint is damaged.
    """
    log = read_log(work_dir)
    notes = list(log.notes)
    bad = [row['step'] for row in log.train if _is_bad(row.get('loss'))]
    if bad:
        notes.append(
            f'{work_dir}: the loss is not finite at iteration {bad[0]}'
            + (f', and at {len(bad) - 1} more of the log' if bad[1:] else '')
        )
    written = work_dir / log.starts[-1].name / 'vis_data' / 'config.py'
    # That of the start itself is called config.py, whatever its name was.
    paths = [*sorted(work_dir.glob('*.py')), written]
    named = max(
        (p for p in paths if p.is_file()),
        key=lambda p: (p.parent == work_dir, p.stat().st_mtime),
        default=None,
    )
    cfg = None
    if named is None:
        notes.append(f'{work_dir} has no config')
    else:
        cfg = load_config(str(named), work_dir=str(work_dir))
    checkpoint: str | None = None
    meta: dict = {}
    try:
        checkpoint = pick_checkpoint(str(work_dir))
    except UserError:
        notes.append(f'{work_dir} has no checkpoint')
    else:
        meta = load_checkpoint(checkpoint, 'cpu').get('meta') or {}
    environment = _environment(log, meta)
    return Run(work_dir, name, log, cfg, checkpoint, environment, notes)


def _environment(log: Log, meta: dict) -> dict[str, str]:
    found = dict(log.starts[-1].environment)
    for key, value in found.copy().items():
        silent = value in SILENT.get(key, ())
        if silent or (key in OF_GPUS and found.get(GPU) == 'False'):
            del found[key]
    for key, value in meta.items():
        if key.endswith('version') or key in ('seed', 'time'):
            found[f'{key} (checkpoint)'] = str(value)
    return found


def _is_bad(loss: object) -> bool:
    return isinstance(loss, float) and not math.isfinite(loss)
