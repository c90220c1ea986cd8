"""From a Config to a Runner."""

from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmea.engine.data_checks import check_heads
from mmea.errors import UserError

__all__ = ['build_runner']


def build_runner(cfg: Config, *loaders: str) -> Runner:
    """Build the Runner of a config that has passed the preflight.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
        loaders (str): Keys of the data loaders that will be used.

    Returns:
        Runner: mmengine's.

    Raises:
        UserError: A part of the config has a wrong type or argument, or the
            heads and the data differ in their classes.
    """
    if get_device() == 'cpu' and _replace_type(cfg.model, 'SyncBN', 'BN'):
        print_log(
            'SyncBN needs GPUs: BN takes its place on this CPU', 'current'
        )
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    try:
        runner = build(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'cannot build what {cfg.filename} describes: {error.args[0]}'
        ) from error
    for loader in filter(cfg.get, loaders):
        check_heads(runner.model, cfg, loader)
    return runner


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
