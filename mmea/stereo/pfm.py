import re
from pathlib import Path

import numpy as np

from mmea.errors import UserError

__all__ = ['read_pfm']

HEAD = re.compile(
    rb'P([Ff])\s+(\d+)\s+(\d+)\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\r?\n|\s)'
)


def read_pfm(path: str | Path) -> np.ndarray:
    """Read a portable float map.

    Args:
        path (str | Path): Of either byte order: the sign of its scale tells.

    Returns:
        np.ndarray: float32 (H, W), of colours (H, W, 3), the first row at the
        top, where the file begins with the last.

    Raises:
        UserError: The file cannot be read, is none, or is cut off.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}') from error
    head = HEAD.match(data)
    if not head:
        raise UserError(
            f'{path} is no PFM: it must begin with Pf or PF, width, height '
            'and scale'
        )
    kind, width, height, scale = head.groups()
    shape = [int(height), int(width)] + [3] * (kind == b'F')
    dtype, body = '<f4' if float(scale) < 0 else '>f4', data[head.end() :]
    if len(body) != 4 * np.prod(shape):
        raise UserError(
            f'{path} has {len(body)} bytes behind its head, and {shape} '
            f'numbers take {4 * np.prod(shape)}; fetch it anew'
        )
    values = np.frombuffer(body, dtype).reshape(shape)[::-1]
    return values.astype(np.float32)
