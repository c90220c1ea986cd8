"""Train a config with several members and seeds, a process for each run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import dump, load

from mmea.errors import UserError

__all__ = ['Run', 'train_runs']


class Run:
    """One member, one seed, one folder.

    Args:
        label (str): The member, as it is named.
        seed (int): Of weights and data.
        cfg (Config): With the member in it.
        folder (Path): Where all of the run goes. A run that ended before is
            not repeated, one that was broken off is resumed.
        parameters (int): Of the whole model, for the report.

    Raises:
        UserError: The folder holds a run of another config.
    """

    def __init__(
        self,
        label: str,
        seed: int,
        cfg: Config,
        folder: Path,
        parameters: int,
    ) -> None:
        self.label, self.seed, self.folder = label, seed, folder
        self.parameters = parameters
        self.log = folder / 'log.txt'
        self._config = folder / 'config.py'
        self._result = folder / 'result.json'
        self._process: subprocess.Popen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        # The Runner writes the config that it runs into its work dir, under
        # the same name, and a resumed one differs.
        self._work_dir = folder / 'work'
        cfg.merge_from_dict(
            dict(work_dir=str(self._work_dir), randomness=dict(seed=seed))
        )
        text = cfg.pretty_text
        if self._config.is_file():
            if self._config.read_text(encoding='utf-8') != text:
                raise UserError(
                    f'{folder} holds a run of another config; choose '
                    'another --out, or remove that folder'
                )
        else:
            self._config.write_text(text, encoding='utf-8')

    def start(self, threads: int, gpu: int | None = None) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        if gpu is not None:
            environment['CUDA_VISIBLE_DEVICES'] = str(gpu)
        command = [sys.executable, '-m', 'mmea.train', str(self._config)]
        with open(self.log, 'a', encoding='utf-8') as log:
            self._process = subprocess.Popen(
                [*command, '--resume'],
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
        """Metrics of the last evaluation, once the run has ended well.

        With ``seconds_per_iteration``, the median of what was logged.
        """
        if self._result.is_file():
            return load(self._result)
        if self._process is None or self._process.poll() != 0:
            return None
        lines = self._lines()
        evaluations = [line for line in lines if 'loss' not in line]
        if not evaluations:
            raise UserError(
                f'{self.folder} has no evaluation: the config needs a '
                'val_evaluator and a val_interval within its length'
            )
        other = ('time', 'data_time', 'step')
        result = {k: v for k, v in evaluations[-1].items() if k not in other}
        times = sorted(line['time'] for line in lines if 'loss' in line)
        result['seconds_per_iteration'] = times[len(times) // 2]
        dump(result, self._result)
        return result

    @property
    def error(self) -> str | None:
        """The last line of the log of a run that failed."""
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
