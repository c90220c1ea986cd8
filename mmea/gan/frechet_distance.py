from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.registry import METRICS

from .extractors import build_extractor, name_of

__all__ = ['FrechetDistance', 'frechet_distance']


def frechet_distance(features1: Tensor, features2: Tensor) -> float:
    """Measure the Frechet distance of two Gaussians, fitted to features.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``, in float64.

    Args:
        features1 (Tensor): (N, D), N of 2 or more.
        features2 (Tensor): (M, D), likewise.

    Returns:
        float: At least 0.

    Raises:
        ValueError: The features are of other shapes.

    Example:
        >>> import torch
        >>> from mmea.gan import frechet_distance
        >>> features = torch.randn(50, 4)
        >>> round(frechet_distance(features, features + 1), 6)
        4.0

    Source: arXiv:1706.08500.
    """
    shapes = tuple(features1.shape), tuple(features2.shape)
    widths = {shape[1:] for shape in shapes}
    if len(widths) > 1 or any(len(s) != 2 or s[0] < 2 for s in shapes):
        raise ValueError(
            'features must be (N, D) and (M, D) with N and M of 2 or more, '
            f'got {shapes[0]} and {shapes[1]}'
        )
    means, covs = [], []
    for features in (features1, features2):
        features = features.double()
        means.append(features.mean(0))
        covs.append(torch.cov(features.t()).reshape(2 * [features.shape[1]]))
    # (C1 C2)^(1/2) has the trace of (R C2 R)^(1/2), R the root of C1, and
    # that matrix is symmetric: no complex roots, no failure to converge.
    root = _root(covs[0])
    values = torch.linalg.eigvalsh(root @ covs[1] @ root)
    cross = values.clamp(min=0).sqrt().sum()
    distance = (means[0] - means[1]).square().sum()
    distance = distance + covs[0].trace() + covs[1].trace() - 2 * cross
    return max(distance.item(), 0.0)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


@METRICS.register_module()
class FrechetDistance(BaseMetric):
    """Compare made images with real ones: FID, with any extractor.

    The distance depends on the extractor, whose name is in that of the
    result, ``gan/frechet_distance_NAME``: numbers are comparable with
    published ones only with the Inception network that those are of
    (:class:`FidelityExtractor`).

    Args:
        extractor (dict | Callable): Takes images, uint8 (B, 3, H, W), RGB, to
            features (B, D); a dict is built as a model.
        kwargs: Of mmengine's BaseMetric.

    Raises:
        TypeError: ``extractor`` is neither.
    """

    default_prefix = 'gan'

    def __init__(
        self, extractor: dict | Callable[[Tensor], Tensor], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extractor = build_extractor(extractor)

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of real and of made images."""
        device = data_samples[0]['pred_img'].device
        if isinstance(self.extractor, nn.Module):
            self.extractor.to(device)
        real = torch.stack(list(data_batch['inputs'])).to(device)
        made = torch.stack([sample['pred_img'] for sample in data_samples])
        pair = (self.extractor(images).cpu() for images in (real, made))
        self.results += list(zip(*pair, strict=True))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Measure the distance."""
        if len(results) < 2:
            raise UserError(
                'a Frechet distance needs 2 images or more, the validation '
                f'had {len(results)}'
            )
        real, made = (torch.stack(part) for part in zip(*results))
        name = f'frechet_distance_{name_of(self.extractor)}'
        return {name: frechet_distance(real, made)}
