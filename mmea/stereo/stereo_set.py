from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mmea.errors import UserError
from mmea.layers._checks import check_indices, check_number, check_positive

from .pfm import read_pfm

__all__ = ['StereoSet']


class StereoSet(BaseDataset):
    """What the data sets of stereo pairs share.

    A subclass lists pairs, a dict for each, with the paths ``left``,
    ``right`` and, where the truth is known, ``disparity`` (PFM or npz). An
    item is ``inputs``, uint8 (2, 3, H, W), left image first, RGB, and
    ``data_samples`` with ``img_path`` of the left image and ``gt_disparity``,
    float32 (H, W), NaN where it is unknown.

    Args:
        data_root (str): Folder of the data set.
        split (str): As the subclass has it.
        crop_size (tuple[int, int] | None): (h, w) of a crop by chance, the
            same of both images. Default: None, whole images.
        scale (float): Images, and disparities with them, become so much
            larger. Default: 1.
        kwargs: Of mmengine's BaseDataset.

    Raises:
        ValueError: An argument is out of its range.
        UserError: There is no pair, or one that cannot be read, is smaller
            than the crop, has images or a truth of another size, or no pixel
            of known disparity.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        crop_size: tuple[int, int] | None = None,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if crop_size is not None:
            crop_size = check_indices(crop_size, 'crop_size')  # type: ignore[assignment]
            for side in crop_size:
                check_positive(crop_size=side)
            if len(crop_size) != 2:
                raise ValueError(f'crop_size must be (h, w), got {crop_size=}')
        check_number(0, scale=scale)
        if not scale:
            raise ValueError('scale must be above 0, got scale=0')
        self.split = split
        self.crop_size = crop_size
        self.scale = scale
        self.folder = Path(data_root)
        if not self.folder.is_dir():
            raise UserError(
                f'data_root={data_root!r} is no folder; name the one that '
                f'holds {type(self).__name__}, or train with --demo'
            )
        super().__init__(**kwargs)

    def require(self, found: list[dict], layouts: str) -> list[dict]:
        """Return what was found, or say where was looked."""
        if not found:
            raise UserError(
                f'{self.folder} holds no pair of the split {self.split!r}; '
                f'looked for {layouts}'
            )
        return found

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Read a pair, scale and crop it, pack."""
        info = self.get_data_info(idx)
        left = info['left']
        images = [_read_image(info[side]) for side in ('left', 'right')]
        planes: list[np.ndarray] = [*images]
        if info.get('disparity'):
            planes.append(_read_truth(info['disparity']))
        for plane in planes[1:]:
            if plane.shape[:2] != planes[0].shape[:2]:
                raise UserError(
                    f'{left} has {planes[0].shape[:2]} pixels, its right '
                    f'image or its disparity {plane.shape[:2]}; they must be '
                    'of one size'
                )
        if self.scale != 1:
            planes = _resize(planes, self.scale)
        if self.crop_size:
            planes = _crop(planes, self.crop_size, left)
        sample = BaseDataElement(
            metainfo=dict(img_path=left, sample_idx=idx),
        )
        if len(planes) == 3:
            sample.gt_disparity = torch.from_numpy(planes.pop().copy())
        pair = np.stack(planes).transpose(0, 3, 1, 2)
        inputs = torch.from_numpy(np.ascontiguousarray(pair))
        return dict(inputs=inputs, data_samples=sample)


def first_file(folder: Path, names: Sequence[str]) -> str | None:
    """Return the path of the first of these files that is there."""
    paths = (folder / name for name in names)
    return next((str(path) for path in paths if path.is_file()), None)


def _read_image(path: str) -> np.ndarray:
    """Read uint8 (H, W, 3), RGB."""
    image = None
    try:
        if data := Path(path).read_bytes():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}') from error
    if image is None:
        raise UserError(f'{path} is no image; remove or replace it')
    return image[..., ::-1]


def _read_truth(path: str) -> np.ndarray:
    """Read float32 (H, W), NaN where it is unknown."""
    if path.endswith('.npz'):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays.files
                truth = arrays[names[0]].astype(np.float32)
        except Exception as error:  # numpy's are of many kinds
            raise UserError(
                f'cannot read {path}: it is damaged, or holds no array of '
                'numbers; write it anew'
            ) from error
        if len(names) > 1:
            raise UserError(
                f'{path} holds several arrays, {", ".join(names)}; leave the '
                'disparities alone in it'
            )
    else:
        truth = read_pfm(path)
    truth = np.where(np.isfinite(truth), truth, np.float32(np.nan))
    if truth.ndim != 2 or np.isnan(truth).all():
        raise UserError(
            f'{path} must hold disparities (H, W), some of them finite, got '
            f'shape {truth.shape}, {np.isfinite(truth).sum()} finite; remove '
            'the pair'
        )
    if np.nanmax(truth) < 0:
        raise UserError(
            f'{path} holds disparities below 0 alone; they count how far '
            'left a point lies in the right image: turn the sign'
        )
    return truth


def _resize(planes: list[np.ndarray], scale: float) -> list[np.ndarray]:
    height, width = planes[0].shape[:2]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    out = [
        cv2.resize(np.ascontiguousarray(p), size, interpolation=kind)
        for p in planes[:2]
    ]
    for truth in planes[2:]:
        nearest = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
        out.append(nearest * np.float32(size[0] / width))
    return out


def _crop(
    planes: list[np.ndarray], crop: tuple[int, int], path: str
) -> list[np.ndarray]:
    (height, width), size = crop, planes[0].shape[:2]
    if size[0] < height or size[1] < width:
        raise UserError(
            f'{path} has {size} pixels, fewer than crop_size={crop}; lower '
            'it, or set a larger scale'
        )
    # mmengine seeds numpy's own state in each worker.
    top = np.random.randint(size[0] - height + 1)
    start = np.random.randint(size[1] - width + 1)
    return [p[top : top + height, start : start + width] for p in planes]
