from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from .graph import Graph, softmax
from .images import to_stack

__all__ = ['ClassifierGraph']


class ClassifierGraph(Graph):
    """A classifier of mmpretrain.

    Args:
        model (nn.Module): An ImageClassifier.

    Shapes:
        Images (B, C, H, W) to ``labels`` (B), int64, and ``scores``
        (B, num_classes), probabilities.
    """

    task = 'classification'

    def compute(self, x: Tensor, height: int, width: int) -> tuple:
        return softmax(self.model(x, mode='tensor'))

    @staticmethod
    def predict(model: Any, image: Tensor) -> tuple[Tensor, ...]:
        inputs = to_stack(image)
        found = model.test_step(
            dict(inputs=inputs, data_samples=[DataSample() for _ in inputs])
        )
        scores = torch.stack([sample.pred_score for sample in found])
        return scores.argmax(1), scores
