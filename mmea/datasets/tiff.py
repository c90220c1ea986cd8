"""TIFF that OpenCV and Pillow do not read as they are."""

import io

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mmea.errors import UserError

__all__ = ['has_many_bands', 'is_tiff', 'read_tiff']

MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
BANDS, COLOURS = 277, 262  # numbers of tags
RGB = 2  # a value of COLOURS


def is_tiff(content: bytes) -> bool:
    return content.startswith(MAGIC)


def has_many_bands(content: bytes) -> bool:
    """Whether a TIFF has bands that are no colours, in a page or in pages.

    Of four in a page, and of pages, OpenCV gives the first, in silence.
    """
    file = io.BytesIO(content)
    header = file.read(16 if b'+' in content[:4] else 8)
    tags = ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    bands, further_page = tags.get(BANDS, 1), tags.next
    if tags.get(COLOURS) == RGB:
        return bands > 4
    return bands > 1 or bool(further_page)


def read_tiff(content: bytes) -> np.ndarray:
    """Read a TIFF as it is: (H, W), or (H, W, bands).

    Raises:
        UserError: There is no tifffile.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UserError(
            'this TIFF is read by the package tifffile, which is not there: '
            'pip install tifffile'
        ) from error
    image = tifffile.imread(io.BytesIO(content))
    # Bands come first or last, and are fewer than rows and columns.
    if image.ndim == 3 and image.shape[0] < image.shape[2]:
        image = np.moveaxis(image, 0, 2)
    return np.ascontiguousarray(image)
