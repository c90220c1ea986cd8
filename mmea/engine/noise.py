"""What the stack says in vain, and how it is kept off the console."""

import builtins
import logging
import sys
import warnings
from typing import Any

import mmengine.logging
from mmengine.logging import MMLogger, print_log

__all__ = ['ToConsole', 'hide_noise']

#: Warnings that nobody can act on: the start of the message, and why.
KNOWN = (
    ('Default ``avg_non_ignore`` is False', "mmseg's default, for all nets"),
    ('The draw is False', 'pictures are for those who ask by --show-dir'),
    ('The prefix is not set in metric', 'a metric of mmseg has none'),
    ('"FileClient" will be deprecated', 'said by the stack about itself'),
    ('"HardDiskBackend" is the alias', 'said by the stack about itself'),
    ('`torch.jit.script` is deprecated', 'said by torch of packages'),
    ('`torch.jit.interface` is deprecated', 'said by torch of packages'),
    ('pkg_resources is deprecated', 'mmengine imports it'),
    ('faster_coco_eval is not installed', 'of a metric that is not used'),
    ('Warning: The bbox is out of bounds', 'it is drawn as far as it is in'),
    ('Warning: The polygon is out of bounds', 'likewise'),
    ('Warning: The text is out of bounds', 'likewise'),
    ('The `srun` command', 'of a launcher that is not used'),
    ('`torch.cuda.amp.GradScaler', "mmengine's, on a newer torch"),
    ('FSDP.state_dict_type', "mmengine's, on a newer torch"),
)
#: Modules whose information is for a person too.
TELLING = ('mmea.', 'mmengine.hooks.early_stopping_hook')
TABLES = (
    'mmea.engine.metrics',
    'mmseg.evaluation',
    'mmdet.evaluation',
    'mmpretrain.evaluation',
)
#: Modules that print what is for the log: times, and COCO's twelve averages.
PRINTING = ('pycocotools.', 'mmdet.datasets.api_wrappers.')

_real_print = print


def hide_noise() -> None:
    """Leave out what the stack says that tells nobody what to do."""
    for start, _ in KNOWN:
        escaped = ''.join(c if c.isalnum() or c == ' ' else '.' for c in start)
        warnings.filterwarnings('ignore', message=escaped)
    # Without a logger it prints what is for debugging too.
    if mmengine.logging.print_log is print_log:
        mmengine.logging.print_log = _print_log
    if builtins.print is _real_print:
        builtins.print = _print


def _print(*args: Any, **kwargs: Any) -> None:
    """Print, but for what is for the log of the run, if there is one."""
    name = str(sys._getframe(1).f_globals.get('__name__'))
    if not name.startswith(PRINTING):
        _real_print(*args, **kwargs)
        return
    logger = MMLogger.get_current_instance()
    if any(isinstance(to, logging.FileHandler) for to in logger.handlers):
        logger.info(' '.join(map(str, args)))


def _print_log(
    msg: Any, logger: Any = None, level: int = logging.INFO
) -> None:
    if logger is not None or level >= logging.INFO:
        print_log(msg, logger, level)


class ToConsole(logging.Filter):
    """Let warnings through, and what mmea says; tables only at the end."""

    tables = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if record.levelno >= logging.WARNING:
            return not text.startswith(tuple(start for start, _ in KNOWN))
        frame: Any = sys._getframe(1)
        while frame is not None:
            name = frame.f_globals.get('__name__', '')
            if not name.startswith(('logging', 'mmengine.logging', __name__)):
                if name.startswith(TABLES):
                    return self.tables
                return name.startswith(TELLING)
            frame = frame.f_back
        return False
