import numpy as np
from mmengine.structures import BaseDataElement
from rich.table import Table

from mmea.engine.drawing import draw_class

from .base import Results

__all__ = ['Classes']


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
