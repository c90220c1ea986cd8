import io
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio

from mmea.errors import UserError
from mmea.registry import TRANSFORMS

from .image_head import read_head
from .tiff import has_many_bands, is_tiff, read_tiff

__all__ = ['LoadImage']

#: What brings an image of an orientation upright; 6 and 8 undo each other,
#: the others themselves.
TURNS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile, with errors that name the file.

    An image with an EXIF orientation is turned, or not, as fits the size of
    its label image or the ``height`` and ``width`` of its annotations; one
    that has neither is read as mmcv does, which turns it.

    TIFF of many bands are read with ``color_type='unchanged'``, by tifffile
    (also where OpenCV would drop bands), with the bands last.

    Args:
        exif (str | None): ``'apply'`` turns each image upright by its EXIF
            orientation, ``'ignore'`` none. Default: None, by the size.
        args, kwargs: Of mmcv's LoadImageFromFile.

    Shapes:
        ``img_path`` to ``img``, (H, W, 3) in BGR, (H, W) in grey, (H, W, C)
        of many bands; ``img_shape`` and ``ori_shape`` are its (H, W).

    Raises:
        UserError: The image is missing or cannot be decoded, or fits its
            annotations both turned and not.
    """

    def __init__(
        self, *args: Any, exif: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if exif not in (None, 'apply', 'ignore'):
            raise UserError(
                "exif of mmea.LoadImage must be 'apply', 'ignore' or None, "
                f'got {exif!r}'
            )
        self.exif = exif

    def transform(self, results: dict) -> dict | None:
        path = results['img_path']
        try:
            image = self._read(results)
        except UserError:
            raise
        except Exception as error:  # every decoder raises its own
            if self.ignore_empty:
                return None
            if isinstance(error, FileNotFoundError):
                raise UserError(
                    f'image not found: {path}; the data set or its list of '
                    'files is incomplete'
                ) from error
            raise UserError(
                f'cannot decode the image {path} ({_first_line(error)}); '
                'replace the file or remove it from the data set'
            ) from error
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, results: dict) -> np.ndarray:
        content = self._fetch(results['img_path'])
        head = read_head(io.BytesIO(content))
        tag = head and head.orientation
        if tag is not None:
            how = self.exif or self._fitting(content, tag, results)
            if how is not None:
                image = self._decode_as_stored(content, tag)
                if how == 'apply':
                    image = TURNS[tag](image)
                return np.ascontiguousarray(image)
        return self._decode(content, self.color_type)

    def _fetch(self, path: str) -> bytes:
        if self.file_client_args is not None:
            client = fileio.FileClient.infer_client(
                self.file_client_args, path
            )
            return client.get(path)
        return fileio.get(path, backend_args=self.backend_args)

    def _fitting(self, content: bytes, tag: int, results: dict) -> str | None:
        """Find whether the annotations are of the image turned or not."""
        want = self._annotated_size(results)
        if want is None:
            return None
        stored = self._decode_as_stored(content, tag)
        ways = dict(apply=TURNS[tag](stored), ignore=stored)
        fits = [how for how in ways if ways[how].shape[:2] == want]
        if len(fits) > 1:
            raise UserError(
                f'the image {results["img_path"]} has the EXIF orientation '
                f'{tag}, and its annotations of {want} fit it turned and as '
                "stored: set exif='apply' or exif='ignore' of its loader "
                "(type='mmea.LoadImage'), or store it without the tag"
            )
        return fits[0] if fits else None

    def _annotated_size(self, results: dict) -> tuple[int, int] | None:
        """Read (H, W) off the annotations; None if they do not say."""
        if results.get('height') and results.get('width'):
            return int(results['height']), int(results['width'])
        path = results.get('seg_map_path')
        if path is None:
            return None
        try:
            head = read_head(io.BytesIO(self._fetch(path)))
        except OSError:  # not there, which its own loader says
            return None
        return head and head.size

    def _decode_as_stored(self, content: bytes, tag: int) -> np.ndarray:
        flag = self.color_type
        if flag in ('color', 'grayscale') and self.imdecode_backend in (
            'cv2',
            'pillow',
        ):
            flag += '_ignore_orientation'
        image = self._decode(content, flag)
        if is_tiff(content) and self.imdecode_backend != 'tifffile':
            # Decoders of TIFF turn by the tag, whatever the flag.
            image = TURNS[{6: 8, 8: 6}.get(tag, tag)](image)
        return image

    def _decode(self, content: bytes, flag: str) -> np.ndarray:
        backend = self.imdecode_backend
        if is_tiff(content) and (
            backend == 'tifffile'
            or flag == 'unchanged'
            and has_many_bands(content)
        ):
            return read_tiff(content)
        image = mmcv.imfrombytes(content, flag=flag, backend=backend)
        if image is None:
            raise ValueError(
                f'{backend} reads nothing from it'
                + (
                    "; of more than 4 bands? color_type='unchanged' of its "
                    'loader reads them'
                    if is_tiff(content)
                    else ''
                )
            )
        return image

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, exif={self.exif!r})'


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__
