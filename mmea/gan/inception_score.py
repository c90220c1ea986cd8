from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers._checks import check_positive
from mmea.registry import METRICS

from .extractors import build_extractor, name_of

__all__ = ['InceptionScore', 'inception_score']


def inception_score(
    probabilities: Tensor, splits: int = 10
) -> tuple[float, float]:
    """Score images by the classes that a network sees in them.

    ``exp(mean KL(p(y | x) | p(y)))``, in float64: from 1, where all images
    look alike, to K, where each is surely of one class and all classes occur.

    Args:
        probabilities (Tensor): Of classes, (N, K).
        splits (int): Parts that are scored each by itself, after a fixed
            shuffling. Default: 10.

    Returns:
        tuple[float, float]: Mean and standard deviation (of N) over the parts.

    Raises:
        ValueError: ``probabilities`` are none, or of fewer images than parts.

    Example:
        >>> import torch
        >>> from mmea.gan import inception_score
        >>> score, _ = inception_score(torch.eye(5), splits=1)
        >>> round(score, 6)
        5.0

    Source: arXiv:1606.03498.
    """
    check_positive(splits=splits)
    p = probabilities.double()
    if p.dim() != 2 or len(p) < splits:
        raise ValueError(
            f'probabilities must be (N, K), N not below {splits=}, got '
            f'{tuple(p.shape)}'
        )
    if p.min() < 0 or (p.sum(1) - 1).abs().max() > 1e-3:
        raise ValueError(
            'probabilities must be 0 or more, and each row have the sum 1; '
            'an extractor of logits needs a softmax'
        )
    # Data sets are in the order of their classes, of which a part needs all.
    order = torch.randperm(
        len(p), generator=torch.Generator().manual_seed(0)
    ).to(p.device)
    scores = []
    for part in p[order].tensor_split(splits):
        mean = part.mean(0)
        # x log x is 0 at 0; where the mean is 0, so is every part of it.
        terms = torch.xlogy(part, part) - torch.xlogy(part, mean)
        scores.append(terms.sum(1).mean().exp())
    values = torch.stack(scores)
    return values.mean().item(), values.std(correction=0).item()


@METRICS.register_module()
class InceptionScore(BaseMetric):
    """Score made images by the classes that a network sees in them.

    With the Inception network it is the published score, of another network
    it is comparable with nothing but itself. The results are
    ``gan/inception_score_NAME``, of the extractor's name, and
    ``gan/inception_score_NAME_std``.

    Args:
        extractor (dict | Callable): Takes images, uint8 (B, 3, H, W), RGB, to
            probabilities of classes (B, K); a dict is built as a model, such
            as ``dict(type='mmea.MobileNetV2Extractor', weights=...,
            out='probabilities')``.
        splits (int): Of :func:`inception_score`. Default: 10.
        kwargs: Of mmengine's BaseMetric.

    Raises:
        TypeError: ``extractor`` is neither.
    """

    default_prefix = 'gan'

    def __init__(
        self,
        extractor: dict | Callable[[Tensor], Tensor],
        splits: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(splits=splits)
        self.extractor = build_extractor(extractor)
        self.splits = splits

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the classes of made images."""
        made = torch.stack([sample['pred_img'] for sample in data_samples])
        if isinstance(self.extractor, nn.Module):
            self.extractor.to(made.device)
        self.results += list(self.extractor(made).cpu())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the score and its spread over the parts."""
        if len(results) < self.splits:
            raise UserError(
                f'an inception score of splits={self.splits} needs as many '
                f'images, the validation had {len(results)}'
            )
        score, spread = inception_score(torch.stack(results), self.splits)
        name = f'inception_score_{name_of(self.extractor)}'
        return {name: score, f'{name}_std': spread}
