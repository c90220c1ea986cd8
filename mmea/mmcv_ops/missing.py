"""What an op that nobody covers does when it is called."""

import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions, version
from types import FrameType
from typing import NoReturn

from torch import nn

from mmea.errors import UserError
from mmea.mmcv_ops.pip_commands import compile_command

__all__ = ['MissingOp', 'missing_op']


class MissingOp(UserError, NotImplementedError):
    """An op of mmcv that needs to be compiled was called."""


def missing_op(name: str) -> Callable[..., NoReturn]:
    """Make a function that raises :class:`MissingOp` for the op ``name``."""

    def op(*args: object, **kwargs: object) -> NoReturn:
        package = packages_distributions().get('mmcv', ['mmcv'])[0]
        raise MissingOp(
            f"mmcv's op {name}, which {_asking(sys._getframe(1))} calls, is "
            'not among those that torchvision can do; compile mmcv: '
            f'{compile_command(package, version(package))} (docs/install.md '
            'says what it needs)'
        )

    return op


def _asking(frame: FrameType | None) -> str:
    """Name the file of mmcv and the modules that a call came through."""
    where = frame.f_globals.get('__name__', '?') if frame else '?'
    modules: list[str] = []
    while frame:
        module = frame.f_locals.get('self')
        name = type(module).__name__
        if (
            isinstance(module, nn.Module)
            and not type(module).__module__.startswith('torch.')
            and name not in modules
        ):
            modules.append(name)
        frame = frame.f_back
    # The layer and the part of the model that holds it are enough.
    return ' in '.join([where, *modules[:2]])
