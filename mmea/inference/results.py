"""What a model found in images: pictures, labels, tables.

A kind of task is a class here: it draws one image, keeps what it found, and
writes the files at the end.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image
from rich.table import Table

from mmea.engine.drawing import draw_class, draw_instances, draw_labels
from mmea.files import whole, write_text

__all__ = ['Classes', 'Instances', 'Labels', 'make_results']


class Results:
    """What all kinds share.

    Args:
        out (Path): Folder of the results.
        meta (dict): ``classes`` and ``palette`` of the data set.
        opacity (float): Of what is drawn over photographs.
        only (Sequence[int] | None): Ids of the classes to draw and to count;
            None, all.
        score_thr (float): Instances of a lower score are left out.
    """

    #: Columns of the table of each image.
    columns: tuple[str, ...]

    def __init__(
        self,
        out: Path,
        meta: dict,
        *,
        opacity: float = 0.5,
        only: Sequence[int] | None = None,
        score_thr: float = 0.3,
    ) -> None:
        self.out = out
        self.meta = meta
        self.opacity = opacity
        self.only = only
        self.score_thr = score_thr
        self.rows: list[tuple] = []

    @property
    def classes(self) -> Sequence[str]:
        return self.meta.get('classes') or ()

    def draw(self, picture: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Draw what was found over uint8 (H, W, 3), RGB."""
        raise NotImplementedError

    def find(self, sample: BaseDataElement) -> list[tuple]:
        """List what was found in one image: ``columns`` without its name."""
        raise NotImplementedError

    def add(self, name: Path, sample: BaseDataElement) -> None:
        """Keep what was found in one image."""
        rows = self.find(sample)
        self.rows += [(name.as_posix(), *row) for row in rows]

    def summary(self) -> Table:
        """Make a table of what was found in all images, by class."""
        raise NotImplementedError

    def write(self) -> None:
        """Write ``summary.csv``, a line for each finding."""
        with (
            whole(self.out / 'summary.csv') as part,
            open(part, 'w', newline='', encoding='utf-8') as file,
        ):
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(self.columns)
            writer.writerows(self.rows)


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
        return draw_labels(
            picture,
            _label_map(sample),
            self.meta,
            opacity=self.opacity,
            only=self.only,
        )

    def find(self, sample: BaseDataElement) -> list[tuple]:
        labels = _label_map(sample)
        pixels = self._count(labels)
        return [
            (self.classes[i], f'{pixels[i] / labels.size:.6f}')
            for i in self._shown()
            if pixels[i]
        ]

    def add(self, name: Path, sample: BaseDataElement) -> None:
        labels = _label_map(sample)
        with whole(self.out / 'labels' / name.with_suffix('.png')) as part:
            self._to_image(labels).save(part)
        pixels = self._count(labels)
        self.pixels += pixels
        self.images += pixels > 0
        self.total += labels.size
        super().add(name, sample)

    def _count(self, labels: np.ndarray) -> np.ndarray:
        number = len(self.classes)
        return np.bincount(labels.ravel(), minlength=number)[:number]

    def _shown(self) -> Sequence[int]:
        return range(len(self.classes)) if self.only is None else self.only

    def _to_image(self, labels: np.ndarray) -> Image.Image:
        # The ids of the data set's own label images, where 0 is no class.
        shift = int(bool(self.meta.get('reduce_zero_label')))
        if len(self.classes) + shift > 256:
            return Image.fromarray((labels + shift).astype(np.uint16))
        image = Image.fromarray((labels + shift).astype(np.uint8), 'P')
        palette = np.asarray(self.meta['palette'], np.uint8)
        image.putpalette(np.pad(palette, ((shift, 0), (0, 0))).tobytes())
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


class Instances(Results):
    """Detection: boxes and masks as COCO annotations with scores."""

    columns = ('image', 'class', 'score', 'x', 'y', 'width', 'height')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def _kept(self, sample: BaseDataElement) -> Any:
        found = sample.pred_instances.cpu().numpy()
        keep = found.scores >= self.score_thr
        if self.only is not None:
            keep &= np.isin(found.labels, list(self.only))
        return found[keep]

    def draw(self, picture: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        found = self._kept(sample).to_tensor()
        return draw_instances(picture, found, self.meta, opacity=self.opacity)

    def find(self, sample: BaseDataElement) -> list[tuple]:
        found = self._kept(sample)
        return [
            (self.classes[label], f'{score:.4f}', *_box(corners))
            for label, score, corners in zip(
                found.labels, found.scores, found.bboxes
            )
        ]

    def add(self, name: Path, sample: BaseDataElement) -> None:
        height, width = map(int, sample.ori_shape)
        number = len(self.images) + 1
        self.images.append(
            dict(
                id=number,
                file_name=name.as_posix(),
                width=width,
                height=height,
            )
        )
        found = self._kept(sample)
        for i in range(len(found)):
            box = _box(found.bboxes[i])
            annotation = dict(
                id=len(self.annotations) + 1,
                image_id=number,
                category_id=int(found.labels[i]) + 1,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=0,
                score=round(float(found.scores[i]), 4),
            )
            if 'masks' in found:
                annotation.update(_encode(found.masks[i]))
            self.annotations.append(annotation)
        super().add(name, sample)

    def summary(self) -> Table:
        table = Table('class', 'images', 'instances', 'mean score')
        for name in self.classes:
            rows = [row for row in self.rows if row[1] == name]
            if rows:
                mean = sum(float(row[2]) for row in rows) / len(rows)
                images = len({row[0] for row in rows})
                table.add_row(name, f'{images}', f'{len(rows)}', f'{mean:.2f}')
        return table

    def write(self) -> None:
        super().write()
        import json

        content = dict(
            images=self.images,
            annotations=self.annotations,
            categories=[
                dict(id=i, name=name) for i, name in enumerate(self.classes, 1)
            ],
        )
        write_text(self.out / 'predictions.json', json.dumps(content))


class Classes(Results):
    """Classification: the five likeliest classes of each image."""

    columns = ('image', 'class', 'score')

    def draw(self, picture: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        if self.only is not None:
            scores = sample.pred_score
            best = max(self.only, key=lambda i: float(scores[i]))
            sample = sample.clone()
            sample.pred_label = sample.pred_label.new_tensor([best])
        return draw_class(picture, sample, self.classes)

    def find(self, sample: BaseDataElement) -> list[tuple]:
        scores = sample.pred_score.cpu()
        order = scores.argsort(descending=True).tolist()
        if self.only is not None:
            order = [i for i in order if i in self.only]
        return [
            (self.classes[i] if self.classes else str(i), f'{scores[i]:.4f}')
            for i in order[:5]
        ]

    def summary(self) -> Table:
        table = Table('class', 'images')
        first = list(
            dict((row[0], row[1]) for row in self.rows[::-1]).values()
        )
        for name in sorted(set(first), key=first.count, reverse=True):
            table.add_row(name, f'{first.count(name)}')
        return table


def make_results(
    sample: BaseDataElement, *args: Any, **kwargs: Any
) -> Results:
    """Make the results of the kind that a data sample is of."""
    if 'pred_sem_seg' in sample:
        return Labels(*args, **kwargs)
    if 'pred_instances' in sample:
        return Instances(*args, **kwargs)
    return Classes(*args, **kwargs)


def _label_map(sample: BaseDataElement) -> np.ndarray:
    return sample.pred_sem_seg.data.squeeze(0).cpu().numpy()


def _box(corners: np.ndarray) -> list[float]:
    """Give x, y, width and height of x0, y0, x1, y1."""
    x0, y0, x1, y1 = map(float, corners)
    return [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]


def _encode(mask: np.ndarray) -> dict:
    """Give a mask as COCO's compressed runs, and its area."""
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs['counts'] = runs['counts'].decode()
    return dict(segmentation=runs, area=float(mask.sum()))
