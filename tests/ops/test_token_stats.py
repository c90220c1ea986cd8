"""Summaries of logits merge to those of all, whatever the order."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmea.ops import TokenStats, double_norm, external_attention

B, S = 2, 3


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def same(got, want, rtol=1e-12):
    """Of what they stand for: the maximum alone is free to move."""
    assert torch.equal(got.sum == 0, want.sum == 0)
    torch.testing.assert_close(
        (got.max + got.sum.log()).exp(),
        (want.max + want.sum.log()).exp(),
        rtol=rtol,
        atol=0,
    )


@st.composite
def summaries(draw):
    """Of few tokens, none at all or very large ones."""
    tokens = draw(st.integers(0, 4))
    scale = draw(st.sampled_from([0.1, 3, 100]))
    logits = scale * randn(B, S, tokens, seed=draw(st.integers(0, 99)))
    mask = randn(B, tokens, seed=draw(st.integers(0, 99))) > 0
    return TokenStats.of(logits, mask)


@settings(deadline=None, max_examples=40)
@given(summaries(), summaries(), summaries())
def test_a_commutative_monoid(a, b, c):
    same(a + b, b + a, rtol=0)
    same((a + b) + c, a + (b + c))
    same(a + TokenStats.empty(B, S), a, rtol=0)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40),
    st.sampled_from([1.0, 1e4]),
    st.randoms(use_true_random=False),
)
def test_pieces_in_any_order(tokens, scale, random):
    logits = scale * randn(B, S, tokens)
    mask = randn(B, tokens, seed=1) > 0
    mask[1] = False  # an image without a valid token
    order = list(range(0, tokens, 3))
    random.shuffle(order)
    got = TokenStats.empty(B, S)
    for i in order:
        part = slice(i, i + 3)
        got += TokenStats.of(logits[..., part], mask[:, part])
    want = logits.masked_fill(~mask[:, None], -torch.inf).logsumexp(2)
    torch.testing.assert_close(
        got.max + got.sum.log(), want, rtol=1e-14, atol=1e-12
    )
    assert got[1].sum.eq(0).all() and got[1].max.eq(-torch.inf).all()


def test_decay_counts_tokens_less():
    old, new = randn(B, S, 5), randn(B, S, 4, seed=1)
    got = TokenStats.of(old).decay(0.25) + TokenStats.of(new)
    want = 0.25 * old.exp().sum(2) + new.exp().sum(2)
    torch.testing.assert_close(got.max.exp() * got.sum, want)
    for _ in range(3000):  # 0.25 to that power is none in float64
        got = got.decay(0.25)
    assert got.sum.ne(0).all()
    for factor in (0, 1.5, -1):
        with pytest.raises(ValueError, match=re.escape(f'{factor=}')):
            got.decay(factor)


def test_tensors_images_and_pool():
    logits = 5 * randn(B, S, 7)
    stats = TokenStats.of(logits)
    same(TokenStats.from_tensor(stats.to_tensor()).to('cpu'), stats, rtol=0)
    assert len(stats) == B
    for index in (1, -1, slice(1, 2), torch.tensor([1])):
        same(stats[index], TokenStats.of(logits[1:]), rtol=0)
    same(stats.pool(), TokenStats.of(logits.transpose(0, 1).reshape(1, S, -1)))


@pytest.mark.parametrize(
    ('call', 'error'),
    [
        (
            lambda: TokenStats.empty(2, 3) + TokenStats.empty(1, 3),
            r'got \(2, 3\) and \(1, 3\); pool',
        ),
        (
            lambda: TokenStats(torch.zeros(3), torch.zeros(3)),
            r'must both be \(B, S\), got \(3,\)',
        ),
        (
            lambda: TokenStats.from_tensor(torch.zeros(3, 1, 1)),
            r'must be \(2, B, S\), got \(3, 1, 1\)',
        ),
        (
            lambda: double_norm(
                torch.zeros(2, 3, 1), stats=TokenStats.empty(3, 3)
            ),
            r'of 2 images, or one, and 3 slots, got \(3, 3\)',
        ),
        (
            lambda: double_norm(
                torch.zeros(2, 3, 1),
                stats=TokenStats.empty(2, 3),
                over_tokens=False,
            ),
            'over_tokens=False has none',
        ),
        (
            lambda: external_attention(
                *(torch.zeros(1, 1, 1), *torch.zeros(2, 1, 1)),
                stats=TokenStats.empty(1, 1),
                process_group=object(),
            ),
            'give one of them',
        ),
    ],
)
def test_refused(call, error):
    with pytest.raises(ValueError, match=error):
        call()


@pytest.mark.parametrize('eps', [1e-9, 1e-3, 0.0])
@pytest.mark.parametrize('scale', [1, 30, 1e4])
@pytest.mark.parametrize(
    ('dtype', 'bound'), [(torch.float64, 1e-12), (torch.float32, 1e-6)]
)
def test_attention_of_pieces(dtype, bound, scale, eps):
    """Forward and backward, under a mask, as of the whole image."""
    x, mask = randn(B, 4, 37, dtype=dtype), randn(B, 37, seed=1) > -1
    mask[1] = False
    key = scale * randn(S, 4, seed=2, dtype=dtype)
    value, weight = randn(S, 4, seed=3, dtype=dtype), randn(B, 4, 37, seed=4)
    results = []
    for pieces in ([37], [5, 1, 20, 11]):
        leaves = [t.clone().requires_grad_() for t in (x, key, value)]
        parts = list(zip(leaves[0].split(pieces, 2), mask.split(pieces, 1)))
        stats = None
        if len(parts) > 1:
            stats = TokenStats.empty(B, S)
            for part, valid in reversed(parts):
                stats += external_attention(
                    part, *leaves[1:], mask=valid, return_stats=True
                )[1]
        out = torch.cat(
            [
                external_attention(
                    part, *leaves[1:], mask=valid, stats=stats, eps=eps
                )
                for part, valid in parts
            ],
            2,
        )
        (out * weight).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for want, got in zip(*results):
        assert got.isfinite().all()
        error = (got - want).abs().max()
        # The gradients have the rounding of sums over all tokens.
        share = bound if want is results[0][0] else 4 * bound
        assert error <= share * want.abs().max().clamp(min=1e-30)
    assert results[1][0][1].eq(0).all()


def test_of_other_images():
    """One context for many: each as it would be among the first's tokens."""
    first, other = 1e4 * randn(2, S, 6), 1e4 * randn(B, S, 5, seed=1)
    stats = TokenStats.of(first).pool()
    for eps in (1e-9, 0):
        got = double_norm(other, stats=stats, eps=eps)
        u = other - (stats.max + stats.sum.log())[..., None]
        want = (u - torch.logaddexp(u.logsumexp(1, True), eps_log(eps))).exp()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
        assert got.sum(1).max() > 0.9
        none = double_norm(other, stats=TokenStats.empty(1, S), eps=eps)
        assert none.eq(0).all()


def eps_log(eps):
    return torch.tensor(eps, dtype=torch.float64).log()
