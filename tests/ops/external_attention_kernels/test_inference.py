"""The kernels of inference, in the interpreter, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmea.ops import external_attention_block

# The norm of the error over the norm, as the dtype rounds.
LIMITS = {'float32': 2e-6, 'float16': 1e-3, 'bfloat16': 8e-3}


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make(sizes, dtype, *, channels_last, masked, sharpness=1.0):
    """Tokens, memories, bias, mask; what a kernel rounds is round."""
    batch, channels, slots, tokens = sizes
    dtype = getattr(torch, dtype)
    x = randn(batch, channels, tokens, seed=0).to(dtype)
    if channels_last:
        x = x.mT.contiguous().mT
    key = randn(slots, channels, seed=1) * sharpness / channels**0.5
    value, bias = randn(slots, channels, seed=2), randn(channels, seed=3)
    mask = None
    if masked:
        mask = randn(batch, tokens, seed=4) > -0.5
        mask[-1] = False  # an image without a valid token
    return x, key.to(dtype).float(), value, bias, mask


def check_close(got, want, limit):
    assert got.isfinite().all()
    error = (got.double() - want).norm()
    assert error <= limit * want.norm().clamp(min=1e-6)


def check(sizes, dtype, channels_last, masked, sharpness, bias, options):
    """Compare in this process, whose kernels are interpreted."""
    from mmea.ops.external_attention_kernels.launch import infer

    x, key, value, shift, mask = make(
        sizes,
        dtype,
        channels_last=channels_last,
        masked=masked,
        sharpness=sharpness,
    )
    shift = shift if bias else None
    wide = [x.double(), key.double(), value.double()]
    want, _ = external_attention_block(
        *wide, None if shift is None else shift.double(), mask=mask, **options
    )
    if masked and not options['residual']:
        x = x.masked_fill(~mask[:, None], torch.nan)
    got = infer(x, key, value, shift, mask, dtype=x.dtype, **options)
    assert got.dtype == x.dtype and got.stride() == x.stride()
    check_close(got, want, LIMITS[dtype])


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.tuples(
        st.integers(1, 3),
        st.integers(1, 70),
        st.sampled_from([1, 5, 16, 20, 64, 128]),
        st.integers(1, 70),
    ),
    dtype=st.sampled_from(sorted(LIMITS)),
    channels_last=st.booleans(),
    masked=st.booleans(),
    sharpness=st.sampled_from([1.0, 8.0]),
    bias=st.booleans(),
    eps=st.sampled_from([1e-9, 0.0, 0.3]),
    residual=st.booleans(),
    relu=st.booleans(),
)
def test_inference(
    interpreter,
    sizes,
    dtype,
    channels_last,
    masked,
    sharpness,
    bias,
    eps,
    residual,
    relu,
):
    options = dict(eps=eps, residual=residual, relu=relu)
    case = sizes, dtype, channels_last, masked, sharpness, bias, options
    interpreter(check, *case)


@pytest.mark.parametrize('tokens', [31, 32, 33, 64, 1025])
def test_edges_of_a_tile(interpreter, tokens):
    """Of 32 tokens, and of the 32 tiles that are merged at a time."""
    options = dict(eps=1e-9, residual=True, relu=True)
    sizes = 1, 8, 4, tokens
    interpreter(check, sizes, 'float32', False, False, 1.0, True, options)


def check_far_logits():
    from mmea.ops.external_attention_kernels.launch import infer

    # All that one token gets is far below eps, and below float32.
    x = torch.tensor([[[0.0, 200.0, 199.0]]])
    key, value = torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [5.0]])
    for eps, first in ((1e-9, 0.0), (0.0, 4.0)):
        got = infer(
            x, key, value, None, None,
            eps=eps, residual=False, relu=False, dtype=x.dtype,
        )  # fmt: skip
        want = torch.tensor([[[first, 4.0, 4.0]]])
        torch.testing.assert_close(got, want)


def test_far_logits(interpreter):
    interpreter(check_far_logits)


def check_nan():
    from mmea.ops.external_attention_kernels.launch import infer

    x, key, value, shift, mask = make(
        (2, 8, 4, 40), 'float32', channels_last=False, masked=False
    )
    x[0, 3, 7] = torch.nan
    got = infer(
        x, key, value, shift, mask,
        eps=1e-9, residual=True, relu=True, dtype=x.dtype,
    )  # fmt: skip
    assert got[0].isnan().all() and not got[1].isnan().any()


def test_nan_of_a_token_is_seen(interpreter):
    """A ReLU that hid it would hide a training gone wrong."""
    interpreter(check_nan)


def check_autocast():
    from mmea.ops.external_attention_kernels.launch import infer

    x, key, value, shift, mask = make(
        (2, 40, 16, 50), 'bfloat16', channels_last=True, masked=True
    )
    options = dict(eps=1e-9, residual=True, relu=False)
    wide = [t.double() for t in (x, key, value, shift)]
    want, _ = external_attention_block(*wide, mask=mask, **options)
    # As under autocast: tokens in float32, products in half precision.
    got = infer(
        x.float(), key, value, shift, mask, dtype=torch.float16, **options
    )
    assert got.dtype == torch.float32
    check_close(got, want, 1e-3)


def test_autocast(interpreter):
    interpreter(check_autocast)
