"""What in the stack and in torch's exporters is in the way of a graph."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

__all__ = ['no_autocast', 'sizes_kept']


class _NoAutocast(torch.autocast):
    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass


@contextmanager
def no_autocast() -> Iterator[None]:
    """Record no region without autocast, as none has it.

    torch.export would make an operator of each, which ``torch.export.load``
    (2.12) refuses.
    """
    with patch.object(torch, 'autocast', _NoAutocast):
        yield


@contextmanager
def sizes_kept() -> Iterator[None]:
    """Keep the sizes of maps symbolic in mmseg while a graph is recorded.

    Its ``resize`` looks at them as ints to give a warning, and its
    ``Upsample`` computes ``int(size * 2.0)``: either way the size of the
    example is in the graph for good, and no error says so.
    """
    wrappers = sys.modules.get('mmseg.models.utils.wrappers')
    if wrappers is None:  # nothing of mmseg is in the model
        yield
        return
    forward = wrappers.Upsample.forward

    def upsample(self: Any, x: Tensor) -> Tensor:
        factor = self.scale_factor
        if self.size or isinstance(factor, tuple) or factor != int(factor):
            return forward(self, x)
        height, width = (n * int(factor) for n in x.shape[-2:])
        return wrappers.resize(
            x, (height, width), None, self.mode, self.align_corners
        )

    names = wrappers.resize.__code__.co_varnames
    quiet = list(wrappers.resize.__defaults__)
    # By position from `size`, the first argument with a default.
    quiet[names.index('warning') - names.index('size')] = False
    with (
        patch.object(wrappers.resize, '__defaults__', tuple(quiet)),
        patch.object(wrappers.Upsample, 'forward', upsample),
    ):
        yield
