import pytest
import torch
import torch.nn.functional as F

from mmea.caam import irm_environments as environments
from mmea.caam.irm_environments import find_environments


def biased(number=300, agree=0.8):
    """Features that tell a context, which goes with most of a class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (number,), generator=generator)
    agrees = torch.rand(number, generator=generator) < agree
    context = torch.where(agrees, labels, 1 - labels)
    noise = 0.1 * torch.randn(number, 2, generator=generator)
    return F.one_hot(context, 2) + noise, labels, agrees


def test_environments_part_where_the_context_misleads():
    features, labels, agrees = biased()
    envs = find_environments(features, labels, 2, epochs=40, batch_size=75)
    assert set(envs.tolist()) == {0, 1} and envs.dtype == torch.long
    rates = [agrees[envs == e].double().mean() for e in (0, 1)]
    # By chance they would be 0.8 each, give or take 0.03.
    assert max(rates) - min(rates) > 0.4
    again = find_environments(features, labels, 2, epochs=40, batch_size=75)
    assert torch.equal(envs, again)
    other = find_environments(
        features, labels, 2, epochs=40, batch_size=75, seed=1
    )
    assert not torch.equal(envs, other)


def test_global_random_state_is_left_alone():
    features, labels, _ = biased(20)
    before = torch.get_rng_state()
    find_environments(features, labels, 3, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_bias_classifier():
    """It learns the context, which is right in 8 cases of 10."""
    features, labels, agrees = biased()
    logits = environments._fit(
        features, labels, 100, 32, torch.Generator().manual_seed(0)
    )
    assert torch.equal(logits.argmax(1) == labels, agrees)


@pytest.mark.parametrize('envs', [2, 3])
def test_gain(envs):
    """Against autograd, through the scale of the logits."""
    torch.manual_seed(0)
    logits = torch.randn(9, 4).double()
    labels = torch.randint(4, (9,))
    place = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])  # the third is empty
    share = F.one_hot(place, envs).double().requires_grad_()
    want = 0
    for e in range(envs):
        scale = torch.ones(1, 4).double().requires_grad_()
        risks = F.cross_entropy(logits * scale, labels, reduction='none')
        risk = (risks * share[:, e]).sum() / share[:, e].sum().clamp(min=1)
        (slope,) = torch.autograd.grad(risk, scale, create_graph=True)
        want = want + (risk + 1e6 * slope.square().sum()) / envs
    got = environments._gain(
        share,
        F.cross_entropy(logits, labels, reduction='none'),
        environments._slopes(logits, labels),
    )
    torch.testing.assert_close(got, want)
    grads = [
        torch.autograd.grad(out, share, retain_graph=True)[0]
        for out in (got, want)
    ]
    torch.testing.assert_close(*grads)


def test_draw():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(6000, 3).clone()
    logits.requires_grad_()
    share = environments._draw(logits, generator)
    rounded = share.round()
    torch.testing.assert_close(share, rounded)
    assert rounded.sum(1).eq(1).all()
    rates = share.mean(0)
    torch.testing.assert_close(
        rates, torch.tensor([0.1, 0.6, 0.3]), rtol=0, atol=0.03
    )
    share[:, 0].sum().backward()
    # Up for the one, down for the others, and no change of their sum.
    assert logits.grad[:, 0].min() > 0 > logits.grad[:, 1:].max()
    assert logits.grad.sum(1).abs().max() < 1e-6


def test_part_is_ascent_with_momentum():
    """Step by step by hand; the best epoch's environments are taken."""
    features, labels, _ = biased(60)
    logits = 3 * features
    risks = F.cross_entropy(logits, labels, reduction='none')
    slopes = environments._slopes(logits, labels)
    got = environments._part(
        logits, labels, 3, 5, 20, torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(0)
    split = torch.empty(60, 3).normal_(generator=generator)
    speed, scale, best = torch.zeros(60, 3), None, -torch.inf
    for _ in range(5):
        gains = []
        for batch in environments._batches(60, 20, generator):
            leaf = split.clone().requires_grad_()
            share = environments._draw(leaf[batch], generator)
            gain = environments._gain(share, risks[batch], slopes[batch])
            scale = 50 / gain.item() if scale is None else scale
            (grad,) = torch.autograd.grad(scale * gain, leaf)
            speed = 0.9 * speed + grad
            split = split + 0.1 * speed
            gains.append(gain.item())
        if sum(gains) > best:
            best, want = sum(gains), split.argmax(1)
    assert torch.equal(got, want)


def test_half_precision_and_a_sure_classifier():
    """Risks of zero everywhere must not end in NaN."""
    labels = torch.arange(8) % 2
    features = 1e3 * F.one_hot(labels, 2)
    for dtype in (torch.float16, torch.float32):
        envs = find_environments(features.to(dtype), labels, 2, epochs=3)
        assert envs.shape == (8,) and set(envs.tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(num_envs=0), 'num_envs must be an int >= 1, got num_envs=0'),
        (dict(epochs='1'), "epochs must be an int >= 1, got epochs='1'"),
        (dict(batch_size=2.0), 'batch_size must be an int >= 1'),
        (dict(seed=-1), 'seed must be an int >= 0'),
        (dict(features=torch.ones(4)), r'features must be .* got .* \(4,\)'),
        (dict(features=torch.ones(4, 2).long()), 'features must be floating'),
        (dict(labels=torch.ones(4)), r'labels must be int64, \(4,\), .*float'),
        (dict(labels=torch.ones(3).long()), r'labels must be .* \(3,\)'),
    ],
)
def test_arguments_are_named(changes, words):
    good = dict(
        features=torch.randn(4, 2), labels=torch.ones(4).long(), num_envs=2
    )
    with pytest.raises(ValueError, match=words):
        find_environments(**dict(good, **changes))
