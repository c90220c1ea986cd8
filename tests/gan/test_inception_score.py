import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement

from mmea.errors import UserError
from mmea.gan import inception_score
from mmea.registry import METRICS


def test_hand_made_distributions():
    sure = torch.eye(4).repeat(5, 1)
    assert inception_score(sure, 1) == (pytest.approx(4, abs=1e-12), 0)
    alike = torch.tensor([[0.2, 0.5, 0.3]]).repeat(7, 1)
    assert inception_score(alike, 3) == (pytest.approx(1), pytest.approx(0))
    # Half of the images of one class, a quarter of two: exp of the entropy.
    sure = torch.eye(3)[[0, 0, 1, 2]]
    want = 2 ** (0.5 * 1 + 2 * 0.25 * 2)
    assert inception_score(sure, 1)[0] == pytest.approx(want, rel=1e-12)
    # Two images, each sure by half.
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).double()
    want = 2 * 0.75**0.75 * 0.25**0.25
    assert inception_score(p, 1)[0] == pytest.approx(want, rel=1e-12)


def test_parts_hold_all_classes():
    """Sorted by class, where parts in a row would be of one class each."""
    sure = torch.eye(5).repeat_interleave(400, 0)
    mean, spread = inception_score(sure, 4)
    assert 4.9 < mean < 5 and 0 < spread < 0.05
    p = torch.rand(9, 3, generator=torch.manual_seed(0)).double()
    p = p / p.sum(1, keepdim=True)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    scores = []
    for rows in (order[:5], order[5:]):
        kl = (p[rows] * (p[rows] / p[rows].mean(0)).log()).sum(1)
        scores.append(kl.mean().exp())
    mean, spread = inception_score(p, 2)
    assert mean == pytest.approx(sum(scores).item() / 2, rel=1e-12)
    want = abs(scores[0] - scores[1]).item() / 2
    assert spread == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ('p', 'splits', 'words'),
    [
        (torch.eye(3), 4, r'splits=4, got \(3, 3\)'),
        (torch.ones(3), 1, r'got \(3,\)'),
        (torch.zeros(3, 2), 1, 'the sum 1; .*softmax'),
        (torch.tensor([[1.5, -0.5]]), 1, '0 or more'),
        (torch.eye(3), 0, 'splits must be an int >= 1'),
    ],
)
def test_bad_arguments(p, splits, words):
    with pytest.raises(ValueError, match=words):
        inception_score(p, splits)


def test_metric():
    def bright(images):
        share = images.double().mean((1, 2, 3)) / 255
        return torch.stack([share, 1 - share], 1)

    metric = METRICS.build(
        dict(type='mmea.InceptionScore', extractor=bright, splits=2)
    )
    made = torch.randint(256, (5, 3, 4, 4)).byte()
    evaluator = Evaluator([metric])
    for rows in (slice(0, 3), slice(3, 5)):
        samples = [BaseDataElement(pred_img=image) for image in made[rows]]
        evaluator.process(samples, None)
    mean, spread = inception_score(bright(made), 2)
    assert evaluator.evaluate(5) == {
        'gan/inception_score_bright': pytest.approx(mean),
        'gan/inception_score_bright_std': pytest.approx(spread),
    }
    with pytest.raises(UserError, match='splits=2 .* had 1'):
        metric.compute_metrics([torch.ones(2) / 2])
