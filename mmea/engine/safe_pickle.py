"""What a checkpoint may build beside tensors, numbers and text.

torch's restricted unpickler calls every function that it was told of with
whatever arguments the file has, so that to name a class is to let in its
constructor: ``numpy.ndarray((1,), 'O', b'AAAAAAAA')`` has pointers that the
file chose. Here each name stands for a function of our own, which takes the
arguments that mmengine's checkpoints have and refuses all others. What it
makes is a placeholder; :func:`settle` puts the real thing in its place.
"""

import math
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

__all__ = ['Refused', 'safe_globals', 'settle']

# Numbers and text; no objects ('O') and no records ('V').
_DTYPES = r'[<>=|]?(\?|[bBhHiIlLqQefdgFDG]|[biufcSU]\d{1,9})'
# The attributes that checkpoints of mmengine name, and no others.
_ATTRIBUTES = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


class Refused(Exception):
    """A checkpoint asks for something that none of mmengine needs."""


class _Dtype:
    """``numpy.dtype(code, align, copy)`` of numbers or text."""

    def __init__(self, code: str, align: int = 0, copy: int = 1) -> None:
        if type(code) is not str or not re.fullmatch(_DTYPES, code):
            raise Refused(f'the data type {code!r}')
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        _, order, *parts = state
        if type(order) is not str or any(p is not None for p in parts[:3]):
            raise Refused('a data type of several parts')
        if order in '<>':
            self.value = self.value.newbyteorder('<' if order == '<' else '>')


class _Array:
    """``numpy.ndarray``, which only ``_reconstruct`` makes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, by_columns, raw = state[-4:]
        self.value = _read(dtype, raw, shape)
        if by_columns:
            self.value = self.value.reshape(shape[::-1]).T


class _History:
    """mmengine's HistoryBuffer, its numbers alone."""

    value: HistoryBuffer | None = None

    def __setstate__(self, state: dict) -> None:
        if type(state) is not dict:
            raise Refused('a history of the log of an unknown form')
        log, count = (
            settle(state.get(key))
            for key in ('_log_history', '_count_history')
        )
        for values in (log, count):
            if type(values) is not np.ndarray or values.ndim != 1:
                raise Refused('a history of the log of an unknown form')
        length = state.get('max_length')
        if type(length) is not int or len(log) != len(count):
            raise Refused('a history of the log of an unknown form')
        self.value = HistoryBuffer(log, count, max_length=length)


class _Owner:
    """A class of which the file may name methods, and that it cannot call."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def _reconstruct(cls: type, shape: tuple, kind: object) -> _Array:
    if cls is not _Array:
        raise Refused(f'an array of the class {cls!r}')
    return _Array()


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    return _read(dtype, raw, ())[()]


def _read(dtype: _Dtype, raw: bytes, shape: tuple) -> np.ndarray:
    """Make an array of bytes, which have to be as many as its shape says."""
    if type(dtype) is not _Dtype or type(raw) is not bytes:
        raise Refused('an array that does not consist of bytes')
    if type(shape) is not tuple or any(
        type(n) is not int or n < 0 for n in shape
    ):
        raise Refused(f'an array of the shape {shape!r}')
    size = dtype.value.itemsize
    if math.prod(shape) * size != len(raw):
        raise Refused('an array of another size than its shape')
    if not size:
        return np.zeros(shape, dtype.value)
    return np.frombuffer(raw, dtype.value).reshape(shape).copy()


def _no_bytes() -> bytes:
    """Stand for ``bytes()``, as pickles write the content of empty arrays."""
    return b''


def _range(*numbers: int) -> range:
    """Stand for ``range``, which a user's metainfo may hold."""
    if any(type(n) is not int for n in numbers):
        raise Refused(f'a range of {numbers!r}')
    return range(*numbers)


def _path(*parts: str) -> str:
    """Stand for paths, as their text."""
    if any(type(part) is not str for part in parts):
        raise Refused(f'a path of {parts!r}')
    return PurePosixPath(*parts).as_posix()


def _attribute(owner: Any, name: str) -> Any:
    """Stand for ``getattr``."""
    cls = HistoryBuffer if owner is _History else getattr(owner, 'cls', None)
    if name not in _ATTRIBUTES.get(cls, ()):
        raise Refused(f'the attribute {name!r} of {owner!r}')
    return getattr(cls, name)


def safe_globals() -> list[Any]:
    """List what stands for which name in a checkpoint, as torch takes it."""
    found: list[tuple[Any, str]] = [
        (_Dtype, 'numpy.dtype'),
        (_Array, 'numpy.ndarray'),
        (_attribute, 'builtins.getattr'),
        (_no_bytes, 'builtins.bytes'),
        (_range, 'builtins.range'),
        (_path, 'pathlib.PosixPath'),
        (_path, 'pathlib.WindowsPath'),
        (_History, f'{HistoryBuffer.__module__}.HistoryBuffer'),
        (
            _Owner(OneCycleParamScheduler),
            f'{OneCycleParamScheduler.__module__}.OneCycleParamScheduler',
        ),
    ]
    # numpy 1 and 2 write their own name of the same module.
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        found.append((_reconstruct, f'{module}._reconstruct'))
        found.append((_scalar, f'{module}.scalar'))
    return found


def settle(value: Any, seen: set[int] | None = None) -> Any:
    """Put arrays and histories where their placeholders are.

    Args:
        value: What was unpickled; dicts and lists are changed in place.
        seen (set[int], optional): Of the containers on the way here.

    Returns:
        Any: The value, or what its placeholder stands for.

    Raises:
        Refused: A placeholder that the file has left without content.
    """
    if isinstance(value, (_Array, _History, _Dtype)):
        if value.value is None:
            raise Refused('an array or a history without content')
        return value.value
    seen = set() if seen is None else seen
    if id(value) in seen:
        return value
    if isinstance(value, dict):
        seen.add(id(value))
        for key in value:
            value[key] = settle(value[key], seen)
    elif type(value) is list:
        seen.add(id(value))
        value[:] = [settle(item, seen) for item in value]
    elif type(value) is tuple:
        return tuple(settle(item, seen) for item in value)
    return value
