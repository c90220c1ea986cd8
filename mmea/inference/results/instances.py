from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from rich.table import Table

from mmea.engine.drawing import draw_instances
from mmea.files import write_text

from .base import Results

__all__ = ['Instances']


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
