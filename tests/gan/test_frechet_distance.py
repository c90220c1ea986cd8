import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from torch import nn

from mmea.errors import UserError
from mmea.gan import FrechetDistance, frechet_distance
from mmea.registry import METRICS


def features(number, width, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width))
    return torch.from_numpy(rng.normal(size=(number, width)) @ mix + shift)


@pytest.mark.parametrize('width', [1, 5, 16])
@pytest.mark.parametrize('number', [3, 60])
def test_equals_scipy(width, number):
    """Also of fewer images than features, whose covariance is singular."""
    linalg = pytest.importorskip('scipy.linalg')
    one, two = features(number, width, 0), features(90, width, 1, 0.5)
    got = frechet_distance(one, two)
    covs = [np.atleast_2d(np.cov(f.numpy().T)) for f in (one, two)]
    cross = np.trace(linalg.sqrtm(covs[0] @ covs[1]).real)
    want = (one.mean(0) - two.mean(0)).square().sum().item()
    want += np.trace(covs[0]) + np.trace(covs[1]) - 2 * cross
    assert got == pytest.approx(want, rel=1e-6)
    assert frechet_distance(two, one) == pytest.approx(got, rel=1e-6)


def test_known_distances():
    x = features(40, 3, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    shift = torch.tensor([1.0, -2.0, 0.5]).double()
    assert frechet_distance(x, x + shift) == pytest.approx(5.25)
    # Of covariances C and 9 C: tr(C + 9 C - 6 C).
    x = x - x.mean(0)
    want = 4 * torch.cov(x.t()).trace().item()
    assert frechet_distance(x, 3 * x) == pytest.approx(want)
    # float32 features, whose squares would lose what is asked for.
    far = (x + 1e4).float()
    assert frechet_distance(far, far + 1) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize('shapes', [[(4, 3), (4, 2)], [(1, 3), (4, 3)],
                                    [(4,), (4,)]])  # fmt: skip
def test_bad_features(shapes):
    with pytest.raises(ValueError, match=r'features must be \(N, D\)'):
        frechet_distance(*map(torch.randn, shapes))


class Means(nn.Module):
    def forward(self, images):
        assert not self.training and images.dtype == torch.uint8
        return images.float().mean((2, 3))


def test_metric():
    metric = METRICS.build(
        dict(type='mmea.FrechetDistance', extractor=dict(type=Means))
    )
    evaluator = Evaluator([metric])
    real = torch.randint(256, (7, 3, 4, 4)).byte()
    made = torch.randint(256, (7, 3, 4, 4)).byte()
    for rows in (slice(0, 4), slice(4, 7)):
        samples = [BaseDataElement(pred_img=image) for image in made[rows]]
        evaluator.process(samples, dict(inputs=list(real[rows])))
    got = evaluator.evaluate(7)
    want = frechet_distance(
        real.float().mean((2, 3)), made.float().mean((2, 3))
    )
    assert got == {'gan/frechet_distance_Means': pytest.approx(want)}
    metric.results = metric.results[:1]
    with pytest.raises(UserError, match='2 images or more, .* had 0'):
        metric.compute_metrics([])
    with pytest.raises(TypeError, match='extractor=3'):
        FrechetDistance(3)
