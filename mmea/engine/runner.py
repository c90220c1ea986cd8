"""From a Config to a Runner."""

import errno
from collections.abc import Callable
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmea.engine.console import (
    ConsoleHook,
    QuietFlexibleRunner,
    QuietRunner,
)
from mmea.engine.data_checks import check_heads
from mmea.engine.flexible_runner import WholeFlexibleRunner
from mmea.engine.guarded_loaders import guard_loaders
from mmea.engine.hooks import FiniteLossHook, PlainMetaHook, keep_best
from mmea.engine.preflight import check_packages
from mmea.errors import UserError, in_one_line

__all__ = ['as_trained', 'build_runner', 'run']


def build_runner(cfg: Config, *loaders: str, verbose: bool = True) -> Runner:
    """Build the Runner of a config that has passed the preflight.

    Its pipelines get mmea's loaders; see :mod:`mmea.engine.guarded_loaders`.
    A training gets a :class:`~mmea.engine.hooks.FiniteLossHook` and a
    :class:`~mmea.engine.hooks.PlainMetaHook`, if it has none.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
        loaders (str): Keys of the data loaders that will be used.
        verbose (bool): Whether the console shows all that the log file gets,
            or what :mod:`mmea.engine.console` tells. Default: True.

    Returns:
        Runner: mmengine's.

    Raises:
        UserError: A part of the config has a wrong type or argument, the
            heads and the data differ in their classes, or shards are to be
            averaged.
    """
    if _leave_sync_bn(cfg):
        print_log(
            'SyncBN needs GPUs: BN takes its place on this CPU', 'current'
        )
    _leave_sharding(cfg)
    kinds: tuple[Any, Any] = (Runner, QuietRunner)
    if cfg.get('runner_type') == 'FlexibleRunner':
        kinds = (WholeFlexibleRunner, QuietFlexibleRunner)
    build = kinds[not verbose].from_cfg
    if cfg.get('runner_type') not in (None, 'Runner', 'FlexibleRunner'):
        build = RUNNERS.build
    with in_one_line(f'cannot build what {cfg.filename} describes'):
        runner = build(cfg)
    _check_average(runner)
    if not verbose:
        numbers = (param.numel() for param in runner.model.parameters())
        runner.register_hook(ConsoleHook(sum(numbers)))
    guard_loaders(runner, cfg)
    for guard in (FiniteLossHook, PlainMetaHook):
        if not any(isinstance(hook, guard) for hook in runner.hooks):
            runner.register_hook(guard())
    for loader in filter(cfg.get, loaders):
        check_heads(runner.model, cfg, loader)
    return runner


def as_trained(cfg: Config) -> None:
    """Change a config as ``mmea train`` without options does. In place.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
    """
    check_packages(cfg)
    cfg.setdefault('launcher', 'none')
    keep_best(cfg)
    _leave_sync_bn(cfg)


def _leave_sync_bn(cfg: Config) -> bool:
    return get_device() == 'cpu' and _replace_type(cfg.model, 'SyncBN', 'BN')


def _leave_sharding(cfg: Config) -> None:
    """One process, in a test or after a training by several, has no others."""
    strategy = cfg.get('strategy') or {}
    if cfg.launcher == 'none' and strategy.get('type') == 'mmea.FSDPStrategy':
        cfg.pop('runner_type', None)
        cfg.pop('strategy')


def _check_average(runner: Runner) -> None:
    """Refuse what would end in the first checkpoint."""
    sharded = isinstance(getattr(runner, 'strategy', None), FSDPStrategy)
    if sharded and any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise UserError(
            'custom_hooks has an EMAHook, which averages whole weights, but '
            'strategy.type=mmea.FSDPStrategy leaves a part of them to each '
            'process; leave one of the two out: without runner_type and '
            'strategy, DDP trains with the hook'
        )


class _FirstIteration(Hook):
    """Know whether anything was done."""

    priority = 'VERY_LOW'
    ended = False

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        self.ended = True

    after_val_iter = after_test_iter = after_train_iter


def run(runner: Runner, start: Callable[[], Any]) -> None:
    """Train or test, with what the user can mend in one line.

    mmengine builds loaders, transforms, optimisers, schedules, metrics and
    hooks when it starts, so that whatever is raised before the first
    iteration has ended is taken for a fault of the config or the data. What
    is raised later has a traceback, unless the machine failed.

    Args:
        runner (Runner): Of :func:`build_runner`.
        start (Callable): Its ``train`` or ``test``.

    Raises:
        UserError: Something cannot be built, the first iteration fails, a
            loader's worker was killed, or the disk is full.
    """
    first = _FirstIteration()
    runner.register_hook(first)
    try:
        start()
    except Exception as error:
        if isinstance(error, UserError):
            raise
        _check_machine(error, runner.work_dir)
        if first.ended:
            raise
        with in_one_line(f'cannot run {runner.cfg.filename}'):
            raise
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ConsoleHook):
                hook.stop()


def _check_machine(error: Exception, work_dir: str) -> None:
    """Raise a UserError if it was the machine that failed."""
    text = str(error)
    if 'DataLoader worker' in text and 'killed by signal' in text:
        raise UserError(
            'a worker of a data loader was killed, most often for want of '
            'memory; lower num_workers or batch_size, and go on by --resume'
        ) from error
    full = isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
    )
    # torch writes its archives by C++, which tells no reason.
    if full or 'PytorchStreamWriter failed' in text:
        name = getattr(error, 'filename', None) or work_dir
        raise UserError(
            f'cannot write to {name}: no room on the disk, or the file cannot '
            'be written; the checkpoints before stay: make room, and go on by '
            '--resume'
        ) from error


def _replace_type(cfg: Any, old: str, new: str) -> bool:
    """Replace a ``type`` everywhere in a config; whether there was one."""
    found = False
    if isinstance(cfg, dict):
        if cfg.get('type') == old:
            cfg['type'] = new
            found = True
        cfg = cfg.values()
    elif not isinstance(cfg, (list, tuple)):
        return False
    for value in cfg:
        found |= _replace_type(value, old, new)
    return found
