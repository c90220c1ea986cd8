from typing import Any

import mmcv
import numpy as np
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations

from mmea.errors import UserError
from mmea.registry import TRANSFORMS

from .tiff import read_tiff

__all__ = ['LoadSegAnnotations']

PNG = b'\x89PNG\r\n\x1a\n'
MAX_ID = np.iinfo(np.int32).max


@TRANSFORMS.register_module()
class LoadSegAnnotations(LoadAnnotations):
    """mmseg's LoadAnnotations, at full depth and with errors of one line.

    Ids are those of the file: a grey image of 8, 16 or 32 bits, a palette
    image (the index is the id) or whole numbers as floats. They come as bytes
    where they fit, else as int32.

    Args:
        ignore_index (int): The id of pixels without a label, which
            ``reduce_zero_label`` gives to 0 and leaves as it is, while it
            makes all others one less. With more than 255 classes it must be
            another than 255. Default: 255; the commands pass on the data
            set's.
        args, kwargs: Of mmseg's LoadAnnotations. Leave ``reduce_zero_label``
            to the data set.

    Raises:
        UserError: The label image is missing or cannot be decoded, has
            another size than its image, more than one channel, or ids that
            are negative, fractional or too large.
    """

    def __init__(
        self, *args: Any, ignore_index: int = 255, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        path = results.get('seg_map_path')
        if path is None:
            raise UserError(
                f'the image {results.get("img_path")} has no label image: set '
                'data_prefix.seg_map_path of its data set, or format_only='
                'True of the evaluator to write predictions only'
            )
        results = super().transform(results)
        # ori_shape, because the image may have been resized before.
        size = results['gt_seg_map'].shape
        want = results.get('ori_shape', size)
        if size != tuple(want):
            raise UserError(
                f'the label image {path} is {size}, its image {want}; both '
                'must be (H, W) of one size'
            )
        return results

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        ids = self._whole(self._read(path), path)
        of_set = results.get('reduce_zero_label')
        reduce = (
            of_set
            if self.reduce_zero_label is None
            else (self.reduce_zero_label)
        )
        if of_set is not None and reduce != of_set:
            raise UserError(
                f'reduce_zero_label is {reduce} in the loader of label '
                f'images and {of_set} in the data set: set it in the data '
                'set alone'
            )
        if reduce:
            none = (ids == 0) | (ids == self.ignore_index)
            ids = np.where(none, self.ignore_index, ids - 1)
        if results.get('label_map'):
            old = ids.copy()
            for old_id, new_id in results['label_map'].items():
                ids[old == old_id] = new_id
        fits = 0 <= ids.min(initial=0) and ids.max(initial=0) <= 255
        results['gt_seg_map'] = ids.astype(np.uint8 if fits else np.int32)
        results['seg_fields'].append('gt_seg_map')

    def _read(self, path: str) -> np.ndarray:
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            ids = self._decode(content)
        except FileNotFoundError as error:
            raise UserError(
                f'label image not found: {path}; every image needs one of '
                'the same name'
            ) from error
        except UserError:
            raise
        except Exception as error:  # every decoder raises its own
            raise UserError(
                f'cannot decode the label image {path} '
                f'({type(error).__name__}); replace the file or remove it '
                'and its image from the data set'
            ) from error
        if ids.ndim == 3 and ids.shape[2] == 1:
            ids = ids[..., 0]
        if ids.ndim != 2:
            raise UserError(
                f'the label image {path} is {ids.shape}, of '
                f'{ids.shape[-1]} channels: it must have one, of class ids; '
                'write its colours as ids (grey, or a palette read with '
                "imdecode_backend='pillow')"
            )
        return ids

    def _decode(self, content: bytes) -> np.ndarray:
        if self.imdecode_backend == 'tifffile':
            return read_tiff(content)
        ids = mmcv.imfrombytes(
            content, flag='unchanged', backend=self.imdecode_backend
        )
        if ids is None:
            raise ValueError('nothing was read')
        depth, kind = content[24:26] if content.startswith(PNG) else (8, 0)
        if depth < 8 and kind == 0 and ids.dtype == np.uint8:
            ids = ids // (255 // (2**depth - 1))  # decoders spread greys
        return ids

    def _whole(self, ids: np.ndarray, path: str) -> np.ndarray:
        """Check that all are ids, and give them room to be counted with."""
        if ids.dtype == np.uint8:
            return ids.astype(np.int32)
        with np.errstate(invalid='ignore'):
            good = (ids >= 0) & (ids <= MAX_ID) | (ids == self.ignore_index)
            if ids.dtype.kind == 'f':
                good &= ids == np.floor(ids)
        if not good.all():
            wrong = np.unique(ids[~good])
            raise UserError(
                f'the label image {path} holds the ids '
                f'{", ".join(f"{x:.9g}" for x in wrong[:5].tolist())}: ids '
                f'must be whole numbers from 0 to {MAX_ID}; write the '
                f'pixels without a label as {self.ignore_index}'
            )
        return ids.astype(np.int32)
