"""The original files of CIFAR-10, read without executing what is in them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mmea.errors import UserError

__all__ = ['CLASSES', 'read_batch']

CLASSES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer',
    'dog', 'frog', 'horse', 'ship', 'truck',
)  # fmt: skip


def read_batch(path: Path) -> tuple[np.ndarray, list[int]]:
    """Read a batch: a pickle of a dict with an array of bytes and labels.

    Args:
        path (Path): Such as ``cifar-10-batches-py/data_batch_1``.

    Returns:
        tuple[np.ndarray, list[int]]: Images, uint8 (N, 32, 32, 3), RGB, and
        N labels.

    Raises:
        UserError: The file is missing, asks for another function than those
            that make an array of bytes, or holds something else.
    """
    try:
        with path.open('rb') as file:
            batch = _Unpickler(file, encoding='bytes').load()
        pixels, labels = batch[b'data'].value, list(batch[b'labels'])
        images = pixels.reshape(len(labels), 3, 32, 32)
        if not all(type(k) is int and 0 <= k < 10 for k in labels):
            raise ValueError('a label is not one of 0..9')
    except OSError as error:
        raise UserError(
            f'cannot read {path}: {error.strerror}; data_root is the folder '
            'cifar-10-batches-py, with data_batch_1 to 5 and test_batch'
        ) from error
    except Exception as error:  # whatever a damaged pickle brings about
        raise UserError(
            f'{path} is no batch of CIFAR-10 ({type(error).__name__}: '
            f'{error}); fetch it anew, of the Python version'
        ) from error
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels


class _Array:
    """What stands for an array until its bytes are there."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, raw = state
        if dtype.code != 'u1' or by_columns or type(raw) is not bytes:
            raise ValueError('an array of something else than bytes')
        self.value = np.frombuffer(raw, np.uint8).reshape(shape)


class _Dtype:
    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: tuple) -> None:
        """Leave out the order of the bytes, of which there is one."""


#: Functions of ours in the place of those that such a pickle names.
_KNOWN = {
    ('numpy.core.multiarray', '_reconstruct'): lambda *_: _Array(),
    ('numpy', 'ndarray'): None,
    ('numpy', 'dtype'): _Dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise ValueError(f'it asks for {module}.{name}')
        return _KNOWN[module, name]
