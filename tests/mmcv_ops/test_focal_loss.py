import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import gradients

many = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def inputs(seed, number, lowest):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(number, 5, generator=generator).double()
    target = torch.randint(lowest, 5, (number,), generator=generator)
    weight = torch.rand(5, generator=generator).double()
    return logits.requires_grad_(), target, weight


@many
@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans())
def test_sigmoid(run, seed, number, weighted):
    """Class 5 is the background."""
    logits, target, weight = inputs(seed, number, 0)
    target[0] = 5
    weight = weight if weighted else None
    # Compiled, it is there on a GPU only.
    got = run(
        'focal_loss', 'sigmoid_focal_loss', logits, target, 2.0, 0.25, weight,
        'none', compiled=False,
    )  # fmt: skip
    positive = F.one_hot(target, 6)[:, :5].double()
    p = logits.sigmoid()
    right = p * positive + (1 - p) * (1 - positive)
    alpha = 0.25 * positive + 0.75 * (1 - positive)
    want = -alpha * (1 - right) ** 2 * right.log()
    if weighted:
        classes = torch.cat([weight, torch.ones(1).double()])
        want = want * classes[target][:, None]
    torch.testing.assert_close(got[0], want)
    torch.testing.assert_close(got[1], gradients([want], [logits])[0])


def test_sigmoid_without_a_sample(run):
    logits = torch.zeros(0, 5, requires_grad=True)
    target = torch.zeros(0, dtype=torch.long)
    got = run(
        'focal_loss', 'sigmoid_focal_loss', logits, target, 2.0, 0.25, None,
        'sum', compiled=False,
    )  # fmt: skip
    assert got[0] == 0 and got[1].shape == (0, 5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sigmoid_in_half_precision(run, dtype):
    """Far from the border too, where a probability rounds to 0 or 1."""
    logits = torch.tensor([[-15.0, 8, 0.5, 80, -80]]).to(dtype)
    target = torch.tensor([0])
    arguments = (target, 2.0, 0.25, None, 'none')
    got, grad = run(
        'focal_loss', 'sigmoid_focal_loss', logits.requires_grad_(),
        *arguments, compiled=False,
    )  # fmt: skip
    want = [0.25 * 15, 0.75 * 8, 0.75 * 0.6225**2 * 0.9741, 0.75 * 87.34, 0]
    assert got.dtype == dtype
    torch.testing.assert_close(
        got[0].float(), torch.tensor(want), rtol=0.01, atol=1e-5
    )
    assert grad.isfinite().all()


@many
@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans())
def test_softmax(run, seed, number, weighted):
    """A negative class is ignored."""
    logits, target, weight = inputs(seed, number, 0)
    weight = weight if weighted else None
    got = run(
        'focal_loss', 'softmax_focal_loss', logits, target, 2.0, 0.25, weight,
        'mean', compiled=False,
    )  # fmt: skip
    right = logits.softmax(1).gather(1, target[:, None])[:, 0]
    want = -0.25 * (1 - right) ** 2 * right.log()
    if weighted:
        want = want * weight[target]
    want = want.mean()
    torch.testing.assert_close(got[0], want)
    torch.testing.assert_close(got[1], gradients([want], [logits])[0])
