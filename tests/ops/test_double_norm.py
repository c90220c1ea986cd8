from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmea.ops import double_norm

sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7))


def two_steps(logits, eps, over_tokens=True):
    """The published two steps, or the control's one, in float64."""
    if not over_tokens:
        weights = logits.double().exp()
        return weights / weights.sum(1, keepdim=True)
    attn = logits.double().softmax(-1)
    return attn / (eps + attn.sum(1, keepdim=True))


def randn(shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator).double()


@settings(deadline=None)
@given(
    sizes,
    st.floats(0.01, 100),
    st.sampled_from([1e-9, 1e-3, 0.5]),
    st.booleans(),
)
def test_equals_the_two_steps(shape, scale, eps, over_tokens):
    logits = randn(shape, scale).requires_grad_()
    weight = randn(shape, seed=1)
    got = double_norm(logits, eps=eps, over_tokens=over_tokens)
    want = two_steps(logits, eps, over_tokens)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    grads = [
        torch.autograd.grad((out * weight).sum(), logits)[0]
        for out in (got, want)
    ]
    torch.testing.assert_close(*grads, rtol=1e-7, atol=1e-9)


@settings(deadline=None)
@given(sizes, st.floats(0.01, 1e4))
def test_without_eps_tokens_sum_to_one(shape, scale):
    attn = double_norm(randn(shape, scale).float(), eps=0)
    torch.testing.assert_close(attn.sum(1), torch.ones(shape[0], shape[2]))


@settings(deadline=None)
@given(sizes, st.floats(-50, 50))
def test_shifting_a_slot_changes_nothing(shape, shift):
    logits = randn(shape)
    moved = logits.clone()
    moved[:, 0] += shift
    torch.testing.assert_close(double_norm(moved), double_norm(logits))


@settings(deadline=None)
@given(sizes, st.booleans(), st.data())
def test_mask_equals_leaving_tokens_out(shape, over_tokens, data):
    logits = randn(shape)
    mask = torch.tensor(
        data.draw(
            st.lists(st.booleans(), min_size=shape[2], max_size=shape[2])
        )
    )
    norm = partial(double_norm, over_tokens=over_tokens)
    got = norm(logits, mask=mask.expand(shape[0], -1))
    assert got[..., ~mask].eq(0).all()
    if mask.any():
        torch.testing.assert_close(got[..., mask], norm(logits[..., mask]))


@pytest.mark.parametrize('over_tokens', [True, False])
def test_padding_may_hold_anything(over_tokens):
    logits = randn((1, 3, 4)).float()
    mask = torch.tensor([[True, True, False, False]])
    norm = partial(double_norm, mask=mask, over_tokens=over_tokens)
    want = norm(logits)
    logits[..., 2] = float('nan')
    logits[..., 3] = float('inf')
    torch.testing.assert_close(norm(logits), want)


def test_each_token_of_the_control_by_itself():
    logits = randn((2, 3, 5))
    want = double_norm(logits, over_tokens=False)
    logits[..., 1:] *= 2
    got = double_norm(logits, over_tokens=False)
    assert torch.equal(got[..., 0], want[..., 0])
    assert not torch.isclose(got[..., 1:], want[..., 1:]).any()


@pytest.mark.parametrize(
    'options', [dict(eps=0), dict(eps=1e-9), dict(over_tokens=False)], ids=str
)
def test_an_image_without_a_valid_token_gives_zeros(options):
    logits = randn((2, 3, 5)).requires_grad_()
    mask = torch.tensor([[False] * 5, [True] * 5])
    attn = double_norm(logits, mask=mask, **options)
    assert attn[0].eq(0).all()
    attn.square().sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].eq(0).all() and logits.grad[1].ne(0).any()


@pytest.mark.parametrize(
    ('options', 'want'),
    [
        (dict(eps=0), 0.5),
        (dict(eps=1e-9), 0.0),
        (dict(over_tokens=False), 0.5),
    ],
    ids=str,
)
def test_sharp_logits_stay_finite(options, want):
    """Tokens whose every slot is far below what exp() can hold."""
    logits = torch.zeros(1, 2, 3)
    logits[..., 0] = 1e4
    logits.requires_grad_()
    attn = double_norm(logits, **options)
    attn.square().sum().backward()
    assert attn.isfinite().all() and logits.grad.isfinite().all()
    torch.testing.assert_close(attn[..., 1:], torch.full((1, 2, 2), want))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('over_tokens', [True, False])
def test_half_precision_is_rounded_once(dtype, autocast, over_tokens):
    logits = randn((2, 64, 500), scale=3).to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        got = double_norm(logits, over_tokens=over_tokens)
    assert got.dtype == dtype
    # Of float64 on the very same (rounded) logits: one rounding, no more.
    want = two_steps(logits, 1e-9, over_tokens)
    bound = torch.finfo(dtype).eps / 2 * 1.01
    error = (got.double() - want).abs()
    tiny = torch.finfo(dtype).smallest_normal
    assert (error <= bound * want + tiny).all()


@pytest.mark.parametrize('eps', [1e-9, 0.5, 0.0])
@pytest.mark.parametrize('over_tokens', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_masked_slots_equal_fewer_slots(eps, over_tokens, masked):
    logits = randn((2, 5, 7)).requires_grad_()
    slots = torch.ones(2, 5, dtype=torch.bool)
    slots[0, 1:3] = slots[1] = False
    mask = torch.rand(2, 7) > 0.5 if masked else None
    options = dict(eps=eps, over_tokens=over_tokens)
    got = double_norm(logits, mask=mask, slot_mask=slots, **options)
    want = double_norm(
        logits[:1, slots[0]],
        mask=mask if mask is None else mask[:1],
        **options,
    )
    torch.testing.assert_close(got[:1, slots[0]], want)
    assert got[~slots].eq(0).all()
    got.square().sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].eq(0).all()
