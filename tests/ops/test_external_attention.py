from functools import partial

import pytest
import torch

from mmea.ops import external_attention


@pytest.mark.parametrize('over_tokens', [True, False])
def test_equals_loops(over_tokens):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    key = torch.randn(4, 3, dtype=torch.float64)
    value = torch.randn(4, 6, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64)
    got = external_attention(
        x, key, value, eps=1e-3, over_tokens=over_tokens, key_bias=bias
    )
    for b in range(2):
        logits = [
            [
                bias[s] + sum(x[b, c, n] * key[s, c] for c in range(3))
                for n in range(5)
            ]
            for s in range(4)
        ]
        weights = torch.tensor(logits).exp()
        eps = 0
        if over_tokens:
            weights = weights / weights.sum(1, keepdim=True)
            eps = 1e-3
        weights = weights / (eps + weights.sum(0, keepdim=True))
        want = torch.zeros(6, 5, dtype=torch.float64)
        for n in range(5):
            for s in range(4):
                want[:, n] += weights[s, n] * value[s]
        torch.testing.assert_close(got[b], want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('over_tokens', [True, False])
def test_invalid_tokens_read_nothing(over_tokens):
    torch.manual_seed(0)
    x, key = torch.randn(1, 3, 6), torch.randn(4, 3)
    mask = torch.tensor([[True, True, False, True, False, True]])
    attend = partial(external_attention, over_tokens=over_tokens)
    got = attend(x, key, key, mask=mask)
    assert got[..., ~mask[0]].eq(0).all()
    torch.testing.assert_close(
        got[..., mask[0]], attend(x[..., mask[0]], key, key)
    )
