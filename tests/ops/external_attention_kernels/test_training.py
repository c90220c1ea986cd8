"""The kernels of training, in the interpreter, against float64."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmea.ops import external_attention_block

from .test_inference import check_close, make, randn

# Of output and gradients.
LIMITS = {'float32': 1e-5, 'float16': 2e-3, 'bfloat16': 2e-2}


def check(sizes, dtype, channels_last, masked, sharpness, norm, bias, options):
    """Output, statistics and all gradients, in this process."""
    from mmea.ops import kernel_block

    x, key, value, shift, mask = make(
        sizes,
        dtype,
        channels_last=channels_last,
        masked=masked,
        sharpness=sharpness,
    )
    weight = randn(sizes[1], seed=5) + 2 if norm else None
    options = dict(options, mask=mask, norm_eps=1e-2)
    grad = randn(*x.shape, seed=6).to(x.dtype)
    inputs = [x, key, value, shift if bias else None, weight]
    wide = [t if t is None else t.double() for t in inputs]

    def run(block, inputs):
        leaves = [t.requires_grad_() for t in inputs if t is not None]
        out, stats = block(*inputs, **options)
        grads = torch.autograd.grad(out, leaves, grad.to(out.dtype))
        return out.detach(), stats, grads

    out, stats, grads = run(external_attention_block, wide)
    if options['relu']:  # rounding may tip one that is near 0
        grad = grad.masked_fill(out.abs() < 0.05, 0)
        _, _, grads = run(external_attention_block, wide)
    if masked and not options['residual']:  # no gradient may see it
        x.masked_fill_(~mask[:, None], torch.nan)
    got, found, ours = run(kernel_block, inputs)
    assert got.dtype == x.dtype and got.stride() == x.stride()
    limit = LIMITS[dtype]
    check_close(got, out, limit)
    assert (found is None) == (stats is None)
    if norm:
        assert found.count == stats.count
        # The logits are exact products, summed in float32.
        check_close(found.mean, stats.mean, 1e-5)
        check_close(found.var, stats.var, 1e-4)
    # What cancels is the rounding of larger numbers.
    scale = max(g.norm() for g in grads[1:])
    for mine, other in zip(ours, grads):
        assert mine.isfinite().all() and mine.shape == other.shape
        error = (mine.double() - other).norm()
        assert error <= limit * max(other.norm(), 0.05 * scale)
    assert ours[0].dtype == x.dtype


@settings(deadline=None, max_examples=12)
@given(
    sizes=st.tuples(
        st.integers(1, 3),
        st.integers(1, 40),
        # Of one slot P is 1, and its gradients are rounding.
        st.sampled_from([2, 5, 16, 20, 64]),
        st.integers(2, 50),
    ),
    dtype=st.sampled_from(sorted(LIMITS)),
    channels_last=st.booleans(),
    masked=st.booleans(),
    sharpness=st.sampled_from([1.0, 8.0]),
    norm=st.booleans(),
    bias=st.booleans(),
    eps=st.sampled_from([1e-9, 0.0, 0.3]),
    residual=st.booleans(),
    relu=st.booleans(),
)
# A batch norm over few tokens takes away nearly all of the gradient.
@example(
    (2, 3, 2, 3), 'float16', False, True, 1.0, True, False, 1e-9, False, False
)
@example(
    (2, 15, 2, 3), 'float16', False, True, 8.0, True, False, 1e-9, False, False
)
@example(
    (2, 10, 2, 3), 'float16', False, True, 8.0, True, True, 0.0, False, False
)
@example(
    (3, 18, 2, 5), 'float16', False, True, 8.0, True, True, 0.0, False, False
)
@example(
    (1, 11, 2, 4), 'float16', False, False, 8.0, True, True, 1e-9, False, False
)
@example(
    (1, 20, 2, 3),
    'bfloat16',
    False,
    False,
    8.0,
    True,
    False,
    0.3,
    False,
    False,
)
def test_training(
    interpreter,
    sizes,
    dtype,
    channels_last,
    masked,
    sharpness,
    norm,
    bias,
    eps,
    residual,
    relu,
):
    options = dict(eps=eps, residual=residual, relu=relu)
    case = channels_last, masked, sharpness, norm, bias, options
    interpreter(check, sizes, dtype, *case)


def check_large_mean():
    from mmea.ops.external_attention_kernels.launch_training import train

    # P is (1 - p, p) with p near 1e-3: a variance of 1e-10 beside a mean of 1.
    x = torch.randn(1, 2, 200, dtype=torch.float64)
    x[:, 1] = 100 + x[:, 1] / 10
    key = torch.tensor([[1e-2, 0.0], [1e-2, 1e-1]], dtype=torch.float64)
    value = torch.eye(2, dtype=torch.float64)
    weight = torch.ones(2, dtype=torch.float64)
    _, stats = external_attention_block(x, key, value, None, weight, eps=0.0)
    options = dict(eps=0.0, norm_eps=1e-5, residual=True, relu=False)
    inputs = [t.float() for t in (x, key, value)]
    _, saved = train(
        *inputs, None, weight.float(), None, dtype=torch.float32, **options
    )
    check_close(saved.var, stats.var, 1e-2)


def test_a_small_variance_beside_a_large_mean(interpreter):
    interpreter(check_large_mean)


def check_two_runs():
    from mmea.ops import kernel_block

    found = []
    for _ in range(2):
        x, key, value, bias, mask = make(
            (2, 20, 8, 75), 'float32', channels_last=False, masked=True
        )
        inputs = [t.requires_grad_() for t in (x, key, value, bias)]
        out, _ = kernel_block(*inputs, mask=mask, relu=True)
        found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_two_runs_are_equal(interpreter):
    interpreter(check_two_runs)
