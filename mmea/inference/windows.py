"""Images of any size, read part by part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmea.errors import UserError

__all__ = ['RasterWindows', 'Windows', 'as_windows']

#: What GDAL reads by parts without decoding all that stands before them.
RASTERS = frozenset('.jp2 .tif .tiff'.split())
ROWS = 1024  # at a time, of a label map


class Windows(Protocol):
    """An image that gives parts of itself.

    Attributes:
        name (str): What tells it from others.
        size (tuple[int, int]): Height and width.
    """

    name: str
    size: tuple[int, int]

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Read a part, uint8 (h, w, C), BGR, less where the image ends."""

    def every(self, step: int) -> np.ndarray:
        """Read every so many rows and columns, or what looks like them."""


class ArrayWindows:
    """Parts of an array, or of a memory map of one."""

    def __init__(self, image: np.ndarray, name: str = '') -> None:
        self.image, self.name = image, name
        self.size = image.shape[0], image.shape[1]

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        # A copy: a map may be read-only.
        return np.array(self.image[top:bottom, left:right])

    def every(self, step: int) -> np.ndarray:
        return np.array(self.image[::step, ::step])


class RasterWindows:
    """Parts of a file, by rasterio: TIFF, also georeferenced, JPEG 2000.

    Where a file has more channels than the model takes, alpha is left out;
    one grey channel serves for three.

    Args:
        path (str | PathLike): The file.
        channels (int): Those that the model takes. Default: 3.
        turned (bool): Three or four channels come as BGR, as OpenCV reads
            them; else in the order of the file. Default: True.

    Raises:
        UserError: It cannot be read, is not of uint8, has a palette, or
            another number of channels; ImportError: rasterio is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        channels: int = 3,
        *,
        turned: bool = True,
    ) -> None:
        import rasterio
        from rasterio.enums import ColorInterp

        self.path = path
        with self._telling():
            # Not a name that GDAL might take for something else.
            self.file: Any = rasterio.open(Path(path).absolute())
        self.name = describe_file(path)
        self.size = self.file.height, self.file.width
        kinds = self.file.colorinterp
        self.bands = [*self.file.indexes]
        if len(self.bands) > channels:
            self.bands = [
                i for i, k in enumerate(kinds, 1) if k != ColorInterp.alpha
            ]
        types = sorted({self.file.dtypes[i - 1] for i in self.bands})
        if types != ['uint8']:
            raise UserError(
                f'{path} has values of {types[0]}, and models are trained on '
                'uint8: write it anew, such as with gdal_translate -ot Byte '
                '-scale'
            )
        if ColorInterp.palette in kinds:
            raise UserError(
                f'{path} has a palette: write it anew in colours, such as '
                'with gdal_translate -expand rgb'
            )
        if len(self.bands) == 1:
            self.bands *= channels
        if len(self.bands) != channels:
            raise UserError(
                f'{path} has {len(self.bands)} channels, and the model takes '
                f'{channels}: choose, such as with gdal_translate -b'
            )
        if turned and channels in (3, 4):
            self.bands[:3] = self.bands[2::-1]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        from rasterio.errors import RasterioError

        try:
            yield
        # Some are OSErrors, which would be taken for those of the results.
        except RasterioError as error:
            raise UserError(f'cannot read {self.path}: {error}') from error

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        height, width = self.size
        rows, columns = (top, min(bottom, height)), (left, min(right, width))
        with self._telling():
            part = self.file.read(self.bands, window=(rows, columns))
        return np.ascontiguousarray(part.transpose(1, 2, 0))

    def every(self, step: int) -> np.ndarray:
        size = [-(-n // step) for n in self.size]
        with self._telling():
            part = self.file.read(
                self.bands, out_shape=(len(self.bands), *size)
            )
        return np.ascontiguousarray(part.transpose(1, 2, 0))

    def write_labels(
        self,
        path: str | os.PathLike,
        labels: np.ndarray,
        shift: int = 0,
        palette: np.ndarray | None = None,
    ) -> None:
        """Write a label map as a GeoTIFF that lies where this image does.

        Args:
            path (str | PathLike): Of the file.
            labels (np.ndarray): (H, W), in memory or on the disk.
            shift (int): Added to each label. Default: 0.
            palette (np.ndarray | None): Colours (256 or fewer, 3) of what is
                written, then uint8. Default: None, uint16 without colours.
        """
        import rasterio

        height, width = self.size
        points, crs = self.file.gcps
        dtype = 'uint16' if palette is None else 'uint8'
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            height=height,
            width=width,
            count=1,
            dtype=dtype,
            crs=crs if points else self.file.crs,
            transform=self.file.transform,
            compress='deflate',
            tiled=True,
            bigtiff='if_safer',
        ) as file:
            if points:
                file.gcps = points, crs
            if palette is not None:
                file.write_colormap(1, dict(enumerate(map(tuple, palette))))
            for top in range(0, height, ROWS):
                rows = top, min(top + ROWS, height)
                part = (labels[slice(*rows)] + shift).astype(dtype)
                file.write(part, 1, window=(rows, (0, width)))


def describe_file(path: str | os.PathLike) -> str:
    """Tell a file from others, and from itself when it has changed."""
    found = Path(path).stat()
    return f'{Path(path).absolute()} {found.st_size} {found.st_mtime_ns}'


def is_upright(path: str | os.PathLike) -> bool:
    """Tell whether a TIFF is stored as it is to be seen, black as 0."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            # Of TIFF's tags; 274 is EXIF's too. 0 is white.
            tags: Any = getattr(image, 'tag_v2', {})
            return image.getexif().get(274, 1) == 1 and tags.get(262) != 0
    except (UnidentifiedImageError, OSError, ValueError):
        return True  # GDAL may know it
    except Image.DecompressionBombError:
        return True


def as_windows(image: Any, channels: int) -> Any:
    """Take an array as one that gives parts of itself.

    Raises:
        UserError: It is neither, or not uint8 of so many channels.
    """
    if not isinstance(image, np.ndarray) and hasattr(image, 'read'):
        return image
    shape = getattr(image, 'shape', ())
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or shape[2:] != (channels,)
        or not image.size
    ):
        raise UserError(
            f'image must be (H, W, {channels}) of uint8, got '
            f'{type(image).__name__} {shape} of '
            f'{getattr(image, "dtype", None)}'
        )
    return ArrayWindows(image)
