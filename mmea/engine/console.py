"""What a person sees of a run; the log file has all of it."""

import logging
import resource
import sys
from datetime import timedelta
from numbers import Real
from typing import Any

import torch
from mmengine._strategy import BaseStrategy
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .data_checks.files import data_names
from .flexible_runner import WholeFlexibleRunner
from .noise import ToConsole

__all__ = ['ConsoleHook', 'QuietFlexibleRunner', 'QuietRunner']


class _Stdout:
    """Whatever stands for stdout now: a bar puts itself in front of it."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class QuietRunner(Runner):
    """mmengine's Runner, whose environment, config and hooks go to the log.

    A :class:`ConsoleHook` tells on the console what a person asks for.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        return _quiet(super().build_logger(*args, **kwargs))


class QuietFlexibleRunner(WholeFlexibleRunner):
    """A runner that shards, as quiet as :class:`QuietRunner`."""

    def build_strategy(self, *args: Any, **kwargs: Any) -> BaseStrategy:
        strategy = super().build_strategy(*args, **kwargs)
        _quiet(strategy.logger)
        return strategy


def _quiet(logger: MMLogger) -> MMLogger:
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(ToConsole())
            handler.setStream(_Stdout())
    return logger


class ConsoleHook(Hook):
    """Tell how a training goes: a panel, a bar, a line for each validation.

    Where there is no terminal, plain lines at the log's interval.

    Args:
        parameters (int): Of the model, whole; a process may hold a part.
    """

    priority = 'LOWEST'  # after those that measure and save

    def __init__(self, parameters: int = 0) -> None:
        self._parameters = parameters
        self._console = Console()
        self._bar: Progress | None = None
        self._task: Any = None
        self._interval = 50
        self._best: str | None = None

    @master_only
    def before_run(self, runner: Runner) -> None:
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[told]}'),
            TimeRemainingColumn(),
            console=self._console,
        )

    @master_only
    def before_train(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                self._interval = hook.interval
        self._best = _best_checkpoint(runner)  # of a run that goes on
        facts = _facts(runner, self._parameters)
        if self._bar is None:
            width = max(map(len, facts))
            for name, text in facts.items():
                print(f'{name:{width}}  {text}', flush=True)
            return
        table = Table.grid(padding=(0, 2))
        for name, text in facts.items():
            table.add_row(name, text)
        self._console.print(Panel(table, title='mmea train', expand=False))
        self._bar.start()
        self._task = self._bar.add_task(
            'Training',
            total=runner.max_iters,
            completed=runner.iter,
            told='',
        )

    def before_val_epoch(self, runner: Runner) -> None:
        training = runner._train_loop is not None
        self._show_tables(runner, not training or self._is_last(runner))

    def before_test_epoch(self, runner: Runner) -> None:
        self._show_tables(runner, True)

    def _is_last(self, runner: Runner) -> bool:
        return runner.iter >= runner.max_iters

    def _show_tables(self, runner: Runner, shown: bool) -> None:
        for handler in runner.logger.handlers:
            for known in handler.filters:
                if isinstance(known, ToConsole):
                    known.tables = shown

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: Any = None,
    ) -> None:  # fmt: skip
        done = runner.iter + 1
        if not is_main_process():
            return
        due = done % self._interval == 0 or done == runner.max_iters
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
            if due:
                self._bar.update(self._task, told=_progress(runner))
        elif due:
            left = _seconds(runner) * (runner.max_iters - done)
            until = timedelta(seconds=round(left))
            print(
                f'{done}/{runner.max_iters}  {_progress(runner)}  '
                f'{until} left',
                flush=True,
            )

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._say_metrics(runner, metrics, f'Validation at {runner.iter}')

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._say_metrics(runner, metrics, 'Test')

    @master_only
    def _say_metrics(
        self, runner: Runner, metrics: dict | None, title: str
    ) -> None:
        told = [
            f'{name} {value:.4g}'
            for name, value in (metrics or {}).items()
            if isinstance(value, Real) and not name.startswith('IoU/')
        ]
        before, self._best = self._best, _best_checkpoint(runner)
        mark = '  (the best so far)' if self._best != before else ''
        text = f'{title}: {"  ".join(told) or "no metrics"}{mark}'
        if self._bar is not None:
            self._console.print(text, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def stop(self) -> None:
        """Leave the terminal as it was, however the run ended."""
        if self._bar is not None:
            self._bar.stop()

    def after_train(self, runner: Runner) -> None:
        self.stop()


def _best_checkpoint(runner: Runner) -> str | None:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            return getattr(hook, 'best_ckpt_path', None)
    return None


def _facts(runner: Runner, parameters: int) -> dict[str, str]:
    """Tell what is about to be trained."""
    model = getattr(runner.model, 'module', runner.model)
    device = next(model.parameters()).device
    millions = f'{parameters / 1e6:.2f} M parameters'
    size = f'{len(runner.train_dataloader.dataset)} for training'
    if runner._val_dataloader is not None:
        loader = runner.val_loop.dataloader
        size += f', {len(loader.dataset)} for validation'
    data = ' and '.join(data_names(runner.cfg.train_dataloader['dataset']))
    length = f'{runner.max_iters} iterations'
    if runner.iter:
        length += f', from {runner.iter}'
    return {
        'config': str(runner.cfg.filename),
        'model': f'{type(model).__name__}, {millions}',
        'data': f'{data}, {size}',
        'length': f'{length}, on {device}',
        'work dir': str(runner.work_dir),
    }


def _progress(runner: Runner) -> str:
    told = []
    scalars = runner.message_hub.log_scalars
    for name, key in (('loss', 'train/loss'), ('lr', 'train/lr')):
        if key in scalars:
            told.append(f'{name} {scalars[key].current():.4g}')
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    told.append(f'{_seconds(runner):.2f} s/iteration')
    told.append(f'{memory / 1e9:.1f} GB')
    return '  '.join(told)


def _seconds(runner: Runner) -> float:
    times = runner.message_hub.log_scalars.get('train/time')
    return float(times.mean(10)) if times else 0.0
