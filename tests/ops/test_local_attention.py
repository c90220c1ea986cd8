import pytest
import torch

from mmea.ops import (
    local_logits,
    local_sum,
    neighbours,
    plain_local_logits,
    plain_local_sum,
)

SIZES = [(1, 1), (5, 7), (8, 8), (9, 17), (2, 20)]


def randn(*size):
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


def check(got, want, *params):
    torch.testing.assert_close(got, want)
    weight = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad((got * weight).sum(), params),
        torch.autograd.grad((want * weight).sum(), params),
    ):
        torch.testing.assert_close(a, b)


def test_neighbours():
    x = torch.arange(12.0).view(1, 3, 4)
    windows = neighbours(x, 3)
    assert windows.shape == (1, 3, 4, 3, 3)
    assert windows[0, 1, 2].tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    assert windows[0, 0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 4, 5]]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kernel_size', [1, 3, 7])
def test_logits(size, kernel_size):
    torch.manual_seed(0)
    query, key = (randn(2, 3, 4, *size) for _ in range(2))
    check(
        local_logits(query, key, kernel_size),
        plain_local_logits(query, key, kernel_size),
        query,
        key,
    )


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kernel_size', [1, 3, 7])
def test_sum(size, kernel_size):
    torch.manual_seed(0)
    attn = randn(2, 3, *size, kernel_size, kernel_size)
    value = randn(2, 3, 4, *size)
    check(local_sum(attn, value), plain_local_sum(attn, value), attn, value)


def test_second_derivative():
    torch.manual_seed(0)
    query, key = (randn(1, 1, 2, 2, 3) for _ in range(2))

    def attend(query, key):
        return local_sum(local_logits(query, key, 3).tanh(), key)

    torch.autograd.gradgradcheck(attend, (query, key))
