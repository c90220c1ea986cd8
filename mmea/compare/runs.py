"""Train a config with several members and seeds, a process for each run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from mmengine.config import Config

from mmea.compare.run_files import (
    as_written,
    check_config,
    check_facts,
    damaged,
    read,
    slug,
)
from mmea.engine.lock import lock_folder
from mmea.errors import UserError
from mmea.files import make_folder, write_text

__all__ = ['Run', 'train_runs']


class Run:
    """One member, one seed, one folder.

    ``runs/MEMBER/config.py`` is what all seeds of a member train;
    ``runs/MEMBER/seed-N`` holds the log, the result and, in ``work``, the
    checkpoints. Result and config are small text, and all that is needed to
    go on later: the rest may be removed once the run has ended.

    Args:
        label (str): The member, as it is named.
        seed (int): Of weights and data.
        cfg (Config): With the member in it, without seed and work dir.
        folder (Path): Of all runs. A run that ended before is not repeated,
            one that was broken off is resumed.
        facts (dict): What every run of a comparison has in common, such as
            versions.
        size (dict): Of the whole model, for the report: parameters, ...

    Raises:
        UserError: The folder holds a run of another config or other facts.
    """

    def __init__(
        self,
        label: str,
        seed: int,
        cfg: Config,
        folder: Path,
        facts: dict,
        size: dict,
    ) -> None:
        self.label, self.seed, self.size = label, seed, size
        self.facts = facts
        self._length = _length(cfg)
        self._config = folder / slug(label) / 'config.py'
        self.folder = self._config.parent / f'seed-{seed}'
        self.log = self.folder / 'log.txt'
        self._facts = self.folder / 'facts.json'
        self._threads = self.folder / 'threads.json'
        self._result = self.folder / 'result.json'
        self._work_dir = self.folder / 'work'
        self._process: subprocess.Popen | None = None
        self._fault: str | None = None
        make_folder(self.folder, '--out')
        if self._config.exists():
            check_config(self._config, as_written(cfg))
        else:
            write_text(self._config, cfg.pretty_text)
        # Of a run that has ended, its result says so.
        if not self._result.is_file():
            if self._facts.exists():
                check_facts(self._facts, read(self._facts), facts)
            else:
                write_text(self._facts, json.dumps(facts, indent=1))

    def start(self, threads: int, gpu: int | None = None) -> None:
        # A comparison that was killed may have left its training behind.
        if self._work_dir.is_dir():
            lock_folder(self._work_dir, 'training').close()
        # Another number rounds otherwise: what is resumed keeps its own.
        if self._threads.exists():
            threads = read(self._threads)
            if not isinstance(threads, int) or threads < 1:
                raise damaged(self._threads)
        else:
            write_text(self._threads, str(threads))
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        if gpu is not None:
            environment['CUDA_VISIBLE_DEVICES'] = str(gpu)
        command = [sys.executable, '-m', 'mmea.train', str(self._config)]
        command += ['--resume', '--work-dir', str(self._work_dir)]
        command += ['--cfg-options', f'randomness.seed={self.seed}']
        with open(self.log, 'a', encoding='utf-8') as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process is not None and self.running:
            self._process.terminate()
            self._process.wait()

    @property
    def step(self) -> int:
        """Iterations done, as far as the log says."""
        lines = self._lines()
        return max((line.get('step', 0) for line in lines), default=0)

    @property
    def result(self) -> dict | None:
        """What is known of a run that has ended well, else None.

        member, seed, metrics of the last evaluation, length in words, seconds
        per iteration of training (median of what was logged) and per image
        of evaluation, peak memory, threads, size of the model, and the facts.
        """
        if self._result.is_file():
            return read(self._result)
        if self._process is None or self._process.poll() != 0:
            return None
        lines = self._lines()
        evaluations = [line for line in lines if 'loss' not in line]
        if not evaluations or 'loss' in lines[-1]:
            raise UserError(
                f'{self.folder} has no evaluation: the config needs a '
                'val_evaluator and a val_interval within its length'
            )
        other = ('time', 'data_time', 'step', 'memory')
        # A run that is resumed at its end is evaluated once more.
        end = max(line['step'] for line in evaluations)
        last = next(line for line in evaluations if line['step'] == end)
        metrics = {k: v for k, v in last.items() if k not in other}
        training = [line for line in lines if 'loss' in line]
        if not metrics:  # mmdet leaves them out
            self._fault = (
                'the evaluation gave no metric, as that of a detector which '
                'finds nothing: train longer'
            )
            return None
        times = sorted(line['time'] for line in training)
        result = dict(
            member=self.label,
            seed=self.seed,
            metrics=metrics,
            length=self._length,
            # None of a run that is shorter than the interval of its log.
            seconds_per_iteration=times[len(times) // 2] if times else None,
            seconds_per_evaluated_image=last.get('time'),
            peak_memory=max(
                (line.get('peak_memory', 0) for line in training), default=0
            ),
            threads=read(self._threads) if self._threads.exists() else None,
            **self.size,
            facts=self.facts,
        )
        write_text(self._result, json.dumps(result, indent=1))
        return result

    @property
    def error(self) -> str | None:
        """The last line of the log of a run that failed."""
        if self._fault is not None:
            return self._fault
        if self._process is None or not self._process.poll():
            return None
        text = self.log.read_text(encoding='utf-8', errors='replace').strip()
        return text.rpartition('\n')[2] or f'exit code {self._process.poll()}'

    def _lines(self) -> list[dict]:
        """Read what mmengine's LoggerHook wrote, one dict a line."""
        lines = []
        for path in sorted(self._work_dir.glob('*/vis_data/scalars.json')):
            for line in path.read_text(encoding='utf-8').splitlines():
                if line.endswith('}'):  # not one that is being written
                    lines.append(json.loads(line))
        return lines


def _length(cfg: Config) -> str:
    train_cfg = cfg.get('train_cfg') or {}
    for key in ('max_iters', 'max_epochs'):
        if key in train_cfg:
            unit = 'iterations' if key == 'max_iters' else 'epochs'
            return f'{train_cfg[key]} {unit}'
    return 'of unknown length'


def train_runs(
    runs: list[Run], jobs: int, gpus: int = 0, threads: int = 1
) -> Generator[list[Run], None, None]:
    """Train what has no result yet, some at a time.

    Args:
        runs (list[Run]): In the order in which they start.
        jobs (int): Runs at a time.
        gpus (int): GPUs, which the runs share evenly. Default: 0, no GPU.
        threads (int): Of each run. Default: 1.

    Yields:
        list[Run]: Every second, the runs that are at work. They end with the
        generator: close it (``contextlib.closing``).
    """
    waiting = [run for run in runs if run.result is None]
    slots: list[Run | None] = [None] * jobs
    try:
        while waiting or any(run and run.running for run in slots):
            for i, run in enumerate(slots):
                if waiting and not (run and run.running):
                    slots[i] = run = waiting.pop(0)
                    run.start(threads, i % gpus if gpus else None)
            yield [run for run in slots if run and run.running]
            time.sleep(1)
    finally:
        for run in slots:
            if run:
                run.stop()
