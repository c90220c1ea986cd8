"""The maps of a model on a photograph, and where on it they lie."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.structures import BaseDataElement

import mmea
from mmea.engine.drawing import to_picture
from mmea.errors import UserError, in_one_line
from mmea.inference import Predictor
from mmea.maps import AttentionMaps

__all__ = ['Frame', 'View', 'look', 'run']

Maps = dict[str, tuple[AttentionMaps, ...]]


@dataclass(frozen=True)
class Frame:
    """Where the photograph lies in what the net gets of it.

    Args:
        input_size (tuple[int, int]): Height and width that the net gets.
        photo_size (tuple[int, int]): Those of the photograph.
        resized (tuple[int, int]): Those of the photograph in the input.
        offset (tuple[int, int]): Rows and columns of the resized photograph
            that a crop left out above and on the left.
        seen (tuple[int, int]): Height and width of the input that are no
            padding.
    """

    input_size: tuple[int, int]
    photo_size: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    seen: tuple[int, int]

    @classmethod
    def of(cls, sample: BaseDataElement, input_size: Any) -> 'Frame':
        """Read it off the sample of an image.

        A pipeline resizes; it may crop the centre, and pad below and on the
        right, as the data preprocessor may.
        """
        photo = tuple(sample.ori_shape[:2])
        scale = sample.get('scale_factor') or (1, 1)
        resized = round(photo[0] * scale[1]), round(photo[1] * scale[0])
        given = tuple(map(min, sample.img_shape[:2], input_size))
        offset = tuple(
            round(max(r - g, 0) / 2) for r, g in zip(resized, given)
        )
        seen = tuple(map(min, resized, given))
        return cls(tuple(input_size), photo, resized, offset, seen)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What the net sees of the photograph: top, left, bottom, right."""
        ends = [
            (round(o * p / r), round((o + s) * p / r))
            for o, s, p, r in zip(
                self.offset, self.seen, self.photo_size, self.resized
            )
        ]
        return ends[0][0], ends[1][0], ends[0][1], ends[1][1]

    def lay(self, values: np.ndarray) -> np.ndarray:
        """Lay a map of the net over the photograph.

        Args:
            values (np.ndarray): (h, w), of any stride.

        Returns:
            np.ndarray: float32, of the photograph's size; NaN where the net
            sees nothing of it.
        """
        height, width = self.input_size
        top, left, bottom, right = self.box
        values = cv2.resize(values.astype(np.float32), (width, height))
        values = values[: self.seen[0], : self.seen[1]]
        whole = np.full(self.photo_size, np.nan, np.float32)
        whole[top:bottom, left:right] = cv2.resize(
            values, (right - left, bottom - top)
        )
        return whole

    def find(self, x: float, y: float) -> tuple[float, float]:
        """Turn a pixel of the photograph to row and column of the maps.

        Returns:
            tuple[float, float]: As fractions.

        Raises:
            UserError: The net does not see it.
        """
        top, left, bottom, right = self.box
        if not (left <= x < right and top <= y < bottom):
            raise UserError(
                f'--pixel {x:g} {y:g}: the net sees x from {left} to '
                f'{right - 1} and y from {top} to {bottom - 1} of this image'
            )
        row, column = (
            ((p + 0.5) * r / photo - o) / size
            for p, r, photo, o, size in zip(
                (y, x),
                self.resized,
                self.photo_size,
                self.offset,
                self.input_size,
            )
        )
        return row, column


@dataclass(frozen=True)
class View:
    """What a model looks at in one photograph.

    Args:
        picture (np.ndarray): The photograph, uint8 (H, W, 3), RGB.
        maps (dict): As of :func:`mmea.attention_maps`, of one image.
        frame (Frame): Where the photograph lies in the input.
        pixel (tuple[float, float] | None): X and y on the photograph of the
            pixel whose reading is told.
    """

    picture: np.ndarray
    maps: Maps
    frame: Frame
    pixel: tuple[float, float]

    def lay(self, values: np.ndarray) -> np.ndarray:
        """See :meth:`Frame.lay`."""
        return self.frame.lay(values)


def look(
    predictor: Predictor,
    image: Any,
    *,
    pixel: tuple[float, float] | None = None,
) -> View:
    """Run a model on a photograph, and keep what its attention looks at.

    A segmentor that slides a window over large images sees this one whole.

    Args:
        predictor (Predictor): Of :func:`mmea.load`.
        image (str | PathLike | np.ndarray): A path, or an array (H, W, 3) in
            the channel order of OpenCV, BGR.
        pixel (tuple[float, float] | None): X and y on the photograph.
            Default: None, the centre.

    Returns:
        View: With a photograph and maps.

    Raises:
        UserError: The image cannot be read, the net cannot take it, or
            ``pixel`` is none of it.
    """
    read = predictor.read(image)
    picture = to_picture(read['img'])
    if pixel is None:
        pixel = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    frame, maps = run(predictor, predictor.prepare(read), pixel, image)
    return View(picture, maps, frame, pixel)


def run(
    predictor: Predictor,
    item: dict,
    pixel: tuple[float, float] | None = None,
    name: Any = 'image',
) -> tuple[Frame, Maps]:
    """Run a model on what :meth:`Predictor.prepare` has made of an image."""
    model = predictor.model
    what = 'an array' if isinstance(name, np.ndarray) else name
    with in_one_line(f'the model cannot take {what}'):
        data = model.data_preprocessor(pseudo_collate([item]), False)
        size = tuple(data['inputs'].shape[-2:])
        frame = Frame.of(data['data_samples'][0], size)
        place = (0.5, 0.5) if pixel is None else frame.find(*pixel)
        with _whole(model):
            maps = mmea.attention_maps(
                model,
                forward=lambda: model(**data, mode='predict'),
                pixel=place,
                grid=size,
            )
    return frame, maps


@contextmanager
def _whole(model: Any) -> Iterator[None]:
    """Have a segmentor look at an image as a whole, not window by window."""
    cfg = getattr(model, 'test_cfg', None)
    if not isinstance(cfg, dict) or cfg.get('mode') != 'slide':
        yield
        return
    cfg['mode'] = 'whole'
    try:
        yield
    finally:
        cfg['mode'] = 'slide'
