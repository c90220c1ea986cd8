from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image
from rich.table import Table

from mmea.engine.drawing import draw_labels
from mmea.files import whole
from mmea.inference.windows import RasterWindows, Windows

from .base import Results

__all__ = ['Labels']


class Labels(Results):
    """Semantic segmentation: ``labels/NAME.png`` and shares of pixels."""

    columns = ('image', 'class', 'share')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of each class, its pixels in all images and the images with it.
        self.pixels = np.zeros(len(self.classes), np.int64)
        self.images = np.zeros(len(self.classes), np.int64)
        self.total = 0

    def draw(self, picture: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        return self.draw_map(picture, _label_map(sample))

    def draw_map(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Draw a label map (H, W)."""
        return draw_labels(
            picture, labels, self.meta, opacity=self.opacity, only=self.only
        )

    def find(self, sample: BaseDataElement) -> list[tuple]:
        labels = _label_map(sample)
        return self._rows(self._count(labels), labels.size)

    def add(self, name: Path, sample: BaseDataElement) -> None:
        self.add_map(name, _label_map(sample))

    def add_map(
        self, name: Path, labels: np.ndarray, image: Windows | None = None
    ) -> None:
        """Keep a label map (H, W), which may be on the disk.

        Args:
            image (Windows | None): Where it comes from. One of rasterio gets
                a label image of its own kind, with its place on the Earth.
                Default: None.
        """
        file = self.out / 'labels' / name
        if isinstance(image, RasterWindows):
            with whole(file.with_suffix('.tif')) as part:
                image.write_labels(part, labels, self.shift, self.palette)
        else:
            with whole(file.with_suffix('.png')) as part:
                self._to_image(labels).save(part)
        pixels = self._count(labels)
        self.pixels += pixels
        self.images += pixels > 0
        self.total += labels.size
        rows = self._rows(pixels, labels.size)
        self.rows += [(name.as_posix(), *row) for row in rows]

    def _rows(self, pixels: np.ndarray, total: int) -> list[tuple]:
        return [
            (self.classes[i], f'{pixels[i] / total:.6f}')
            for i in self._shown()
            if pixels[i]
        ]

    def _count(self, labels: np.ndarray) -> np.ndarray:
        number = len(self.classes)
        # A map of any size, some rows at a time.
        counts = (
            np.bincount(labels[i : i + 1024].ravel(), minlength=number)
            for i in range(0, len(labels), 1024)
        )
        return np.sum([c[:number] for c in counts], axis=0)

    def _shown(self) -> Sequence[int]:
        return range(len(self.classes)) if self.only is None else self.only

    @property
    def shift(self) -> int:
        """What label images add to ids: in the data set's own 0 is none."""
        return int(bool(self.meta.get('reduce_zero_label')))

    @property
    def palette(self) -> np.ndarray | None:
        """Colours of the ids in a label image; None beyond 256."""
        if len(self.classes) + self.shift > 256:
            return None
        palette = np.asarray(self.meta['palette'], np.uint8)
        return np.pad(palette, ((self.shift, 0), (0, 0)))

    def _to_image(self, labels: np.ndarray) -> Image.Image:
        palette = self.palette
        if palette is None:
            return Image.fromarray((labels + self.shift).astype(np.uint16))
        labels = (labels + self.shift).astype(np.uint8)
        image = Image.fromarray(labels, 'P')
        image.putpalette(palette.tobytes())
        return image

    def summary(self) -> Table:
        table = Table('class', 'images', 'share of all pixels')
        for i in self._shown():
            if self.pixels[i]:
                share = self.pixels[i] / self.total
                table.add_row(
                    self.classes[i], f'{self.images[i]}', f'{share:.1%}'
                )
        return table


def _label_map(sample: BaseDataElement) -> np.ndarray:
    return sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
