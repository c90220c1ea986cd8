"""The plain block against modules, and both low-rank forms against it."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmea.ops import (
    external_attention,
    external_attention_block,
    low_memory_block,
    low_rank_block,
)

FAST = [low_rank_block, low_memory_block]
NAMES = ('tokens', 'key_memory', 'value_memory', 'bias', 'weight')


def randn(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, **kwargs)


def make_inputs(
    batch=2, channels=6, slots=4, tokens=9, norm=True, dtype=torch.float64
):
    """Tokens, both memories, bias and weight, all of them with gradients."""
    shapes = [
        (batch, channels, tokens),
        (slots, channels),
        (slots, channels),
        (channels,),
        (channels,),
    ]
    values = [
        randn(*shape, seed=i, dtype=dtype).requires_grad_()
        for i, shape in enumerate(shapes)
    ]
    return values if norm else [*values[:3], values[3], None]


def make_control(slots=4, dtype=torch.float64):
    """Options of the control, in which a bias of the logits counts."""
    key_bias = randn(slots, seed=5, dtype=dtype).requires_grad_()
    return dict(over_tokens=False, key_bias=key_bias)


def make_mask(batch, tokens, seed=7):
    """Ragged, the last image without any valid token."""
    mask = randn(batch, tokens, seed=seed) > -0.5
    mask[-1] = False
    return mask


def run(form, inputs, **options):
    """Output, statistics and gradients, flat."""
    out, stats = form(*inputs, **options)
    given = [*inputs, options.get('key_bias')]
    given = [x for x in given if x is not None]
    grads = torch.autograd.grad(
        (out * randn(*out.shape, seed=9, dtype=out.dtype)).sum(), given
    )
    return [out.detach(), *(stats or ()), *grads]


def check_same(got, want, limit=1e-10):
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.shape == w.shape and g.dtype == w.dtype
        assert (g - w).abs().max() <= limit * max(w.abs().max(), 1e-3)


@pytest.mark.parametrize('train', [False, True])
def test_plain_equals_modules(train):
    x, key, value, bias, weight = make_inputs()
    norm = nn.BatchNorm1d(6).double().train(train)
    norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(bias)
    norm.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(norm)
    want = (x + norm(external_attention(x, key, value))).relu()
    if train:
        got, stats = external_attention_block(
            x, key, value, bias, weight, relu=True
        )
        assert stats.count == 18
        torch.testing.assert_close(
            norm.running_mean, 0.9 * before.running_mean + 0.1 * stats.mean
        )
        torch.testing.assert_close(
            norm.running_var, 0.9 + 0.1 * stats.var * 18 / 17
        )
    else:
        scale = weight * torch.rsqrt(norm.running_var + norm.eps)
        got, stats = external_attention_block(
            x, key, value * scale, bias - norm.running_mean * scale, relu=True
        )
        assert stats is None
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('control', [False, True])
def test_plain_mask_equals_leaving_tokens_out(control):
    inputs = make_inputs(batch=1)
    mask = make_mask(2, 9)[:1]
    block = partial(
        external_attention_block, **(make_control() if control else {})
    )
    out, stats = block(*inputs, mask=mask)
    cropped = [inputs[0][..., mask[0]], *inputs[1:]]
    want, want_stats = block(*cropped)
    torch.testing.assert_close(out[..., mask[0]], want)
    assert torch.equal(out[..., ~mask[0]], inputs[0][..., ~mask[0]])
    for got, w in zip(stats, want_stats):
        torch.testing.assert_close(got, w)


@pytest.mark.parametrize('form', FAST)
@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, n) for n in (3, 7, 5, 11)]),
    norm=st.booleans(),
    masked=st.booleans(),
    residual=st.booleans(),
    relu=st.booleans(),
    eps=st.sampled_from([1e-9, 0.0, 0.3]),
    channels_last=st.booleans(),
    control=st.booleans(),
)
def test_fast_equals_plain(
    form, sizes, norm, masked, residual, relu, eps, channels_last, control
):
    inputs = make_inputs(*sizes, norm=norm)
    if channels_last:
        inputs[0] = inputs[0].detach().mT.contiguous().mT.requires_grad_()
    options = dict(
        eps=eps,
        norm_eps=1e-2,
        mask=make_mask(sizes[0], sizes[3]) if masked else None,
        residual=residual,
        relu=relu,
        **(make_control(sizes[2]) if control else {}),
    )
    got = run(form, inputs, **options)
    check_same(got, run(external_attention_block, inputs, **options))


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, n) for n in (3, 7, 5, 11)]),
    norm=st.booleans(),
    bias=st.booleans(),
    masked=st.booleans(),
    residual=st.booleans(),
    relu=st.booleans(),
    channels_last=st.booleans(),
    inplace=st.booleans(),
)
def test_without_a_gradient(
    sizes, norm, bias, masked, residual, relu, channels_last, inplace
):
    """The same, and written over the tokens where that was asked for."""
    x, *memories, weight = [
        None if t is None else t.detach() for t in make_inputs(*sizes)
    ]
    memories[2] = memories[2] if bias else None
    if channels_last:
        x = x.mT.contiguous().mT
    options = dict(
        mask=make_mask(sizes[0], sizes[3]) if masked else None,
        residual=residual,
        relu=relu,
    )
    inputs = [*memories, weight if norm else None]
    want, stats = external_attention_block(x, *inputs, **options)
    given = x.clone(memory_format=torch.preserve_format)
    with torch.no_grad():
        out, got = low_rank_block(given, *inputs, **options, inplace=inplace)
    check_same([out, *(got or ())], [want, *(stats or ())])
    assert out.stride() == x.stride() or not residual
    over = inplace and residual
    assert (out.data_ptr() == given.data_ptr()) == over
    assert over or torch.equal(given, x)


def test_in_place_waits_where_there_is_a_gradient():
    x, *inputs = make_inputs()
    x = x.detach()
    given = x.clone()
    out, _ = low_rank_block(given, *inputs, inplace=True)
    assert torch.equal(given, x)
    want, _ = external_attention_block(x, *inputs)
    found = [torch.autograd.grad(o.sum(), inputs) for o in (out, want)]
    check_same([out, *found[0]], [want, *found[1]])


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('absent', ['bias', 'residual'])
def test_other_width_and_no_bias(form, absent):
    x, key, _, bias, _ = make_inputs()
    value = randn(4, 5, dtype=torch.float64).requires_grad_()
    bias = None if absent == 'bias' else randn(5, dtype=torch.float64)
    for weight in (None, randn(5, seed=3, dtype=torch.float64)):
        leaves = [x, key, value, bias, weight]
        outs = []
        for f in (form, external_attention_block):
            out, _ = f(*leaves, residual=False)
            grads = torch.autograd.grad(out.square().sum(), leaves[:3])
            outs.append([out.detach(), *grads])
        check_same(*outs)


@pytest.mark.parametrize('form', [external_attention_block, *FAST])
def test_double_normalisation_ignores_a_bias_of_the_logits(form):
    inputs = make_inputs()
    key_bias = make_control()['key_bias']
    want = run(form, inputs)
    *got, grad = run(form, inputs, key_bias=key_bias)
    check_same(got, want)
    torch.testing.assert_close(grad, torch.zeros_like(grad))


@pytest.mark.parametrize('form', FAST)
def test_padding_may_hold_nan(form):
    """Beside an image of padding only."""
    inputs, mask = make_inputs(), make_mask(2, 9)
    options = dict(mask=mask, residual=False, **make_control())
    want = run(form, inputs, **options)
    with torch.no_grad():
        inputs[0].mT[~mask] = float('nan')
    check_same(run(form, inputs, **options), want)


@pytest.mark.parametrize('form', FAST)
def test_every_subset_of_inputs_may_need_a_gradient(form):
    inputs, control = make_inputs(), make_control()
    names, inputs = (*NAMES, 'key_bias'), [*inputs, control['key_bias']]
    want = dict(zip(names, run(form, inputs[:5], **control)[4:]))
    for frozen in names:
        leaves = [
            x.detach().requires_grad_(name != frozen)
            for name, x in zip(names, inputs)
        ]
        out, _ = form(*leaves[:5], over_tokens=False, key_bias=leaves[5])
        (out * randn(*out.shape, seed=9, dtype=out.dtype)).sum().backward()
        for name, leaf in zip(names, leaves):
            if name == frozen:
                assert leaf.grad is None
            else:
                torch.testing.assert_close(leaf.grad, want[name])


@pytest.mark.parametrize('form', [external_attention_block, *FAST])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('over_tokens', [True, False])
def test_first_and_second_derivatives(form, masked, over_tokens):
    inputs = [*make_inputs(2, 3, 2, 4), make_control(2)['key_bias']]
    mask = make_mask(2, 4) if masked else None

    def function(*leaves):
        return form(
            *leaves[:5],
            mask=mask,
            norm_eps=0.1,
            over_tokens=over_tokens,
            key_bias=leaves[5],
        )[0]

    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('order', ['contiguous', 'channels last'])
def test_memory_layout_is_kept(form, norm, order):
    inputs = make_inputs(norm=norm)
    x = inputs[0].detach()
    x = x if order == 'contiguous' else x.mT.contiguous().mT
    x.requires_grad_()
    out, _ = form(x, *inputs[1:])
    assert out.stride() == x.stride()
    # And a gradient that comes in it leaves in it.
    grad = torch.autograd.grad(out, x, torch.ones_like(out))[0]
    assert grad.stride() == x.stride()


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('control', [False, True])
def test_kept_for_backward(form, norm, relu, control):
    """In tokens' sizes, beyond the tokens and a ReLU's output."""
    inputs = make_inputs(1, 64, 8, 512, norm=norm, dtype=torch.float32)
    options = make_control(8, torch.float32) if control else {}
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out, _ = form(*inputs, relu=relu, **options)
    for own in (out, *inputs):
        if own is not None:
            kept.pop(own.untyped_storage().data_ptr(), None)
    share = sum(kept.values()) / (64 * 512 * 4)
    if form is low_memory_block:
        # The logits, 8 / 64, and S x S and C matrices.
        assert share < 0.14
    else:
        assert share < 0.6


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('float_input', [False, True])
@pytest.mark.parametrize('control', [False, True])
def test_autocast_beats_the_plain_form(
    form, dtype, norm, float_input, control
):
    """Both against float64; the tokens' rounding is the input's, not ours."""
    exact = make_inputs(2, 64, 8, 300, norm=norm)
    exact[0] = exact[0].detach().to(dtype).double().requires_grad_()
    # Memories of a start from small numbers: P is nearly 1 / S.
    exact[1] = (exact[1] * 0.01).detach().requires_grad_()
    leaves = [None if x is None else x.detach().float() for x in exact]
    if not float_input:
        leaves[0] = leaves[0].to(dtype)
    leaves = [None if x is None else x.requires_grad_() for x in leaves]
    options = make_control(8) if control else {}
    want, _ = external_attention_block(*exact, residual=False, **options)
    options = make_control(8, torch.float32) if control else {}

    def error(f):
        with torch.autocast('cpu', dtype):
            out, _ = f(*leaves, residual=False, **options)
        assert out.dtype == dtype
        return (out - want).abs().max() / want.abs().max()

    assert error(form) < 0.01
    if norm:  # amplifies what the plain form has rounded
        assert error(form) < 0.5 * error(autocast_plain)
    with torch.autocast('cpu', dtype):
        out, _ = form(*leaves, **options)
    # As x + conv(x) would give under autocast.
    assert out.dtype == torch.promote_types(leaves[0].dtype, dtype)
    out.float().square().sum().backward()
    for leaf in [*leaves, options.get('key_bias')]:
        assert leaf is None or leaf.grad.dtype == leaf.dtype


def autocast_plain(x, key, value, bias, weight, residual, **options):
    """What autocast makes of modules: every product in half precision."""
    out = external_attention(x, key, value, **options)
    norm = nn.functional.batch_norm
    return norm(out, None, None, weight, bias, training=True), None


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('control', [False, True])
def test_gradients_under_autocast_beat_the_plain_form(form, control):
    exact = make_inputs(2, 64, 8, 300)
    exact[0] = exact[0].detach().bfloat16().double().requires_grad_()
    exact[1] = (exact[1] * 0.01).detach().requires_grad_()
    if control:
        exact.append(make_control(8)['key_bias'])
    weight = randn(2, 64, 300, seed=5, dtype=torch.float64)

    def gradients(f, leaves):
        options = dict(residual=False)
        if control:
            options.update(over_tokens=False, key_bias=leaves[5])
        out, _ = f(*leaves[:5], **options)
        return torch.autograd.grad((out * weight).sum(), leaves)

    want = gradients(external_attention_block, exact)

    def errors(f):
        leaves = [x.detach().float().requires_grad_() for x in exact]
        with torch.autocast('cpu', torch.bfloat16):
            grads = gradients(f, leaves)
        return [(g - w).norm() / w.norm() for g, w in zip(grads, want)]

    names = [*NAMES, 'key_bias'][: len(exact)]
    for name, got, plain in zip(names, errors(form), errors(autocast_plain)):
        if form is low_rank_block and name == 'bias':
            # One column of a product in bf16: rounded, once.
            assert got < 2**-8
        elif name == 'key_bias':
            # The norm takes away the mean over tokens: of a sum over nearly
            # equal attention, what is left is as small as the roundings.
            assert got < 2 * plain
        else:
            assert got < plain, name


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('scale', [1e-3, 1e-5])
def test_float16_with_tiny_memories(form, scale):
    """P is 1 / S but for its last bits, which a batch norm makes large."""
    exact = make_inputs(2, 64, 8, 300)
    exact[0] = exact[0].detach().half().double().requires_grad_()
    for i in (1, 2):
        exact[i] = (exact[i] * scale).detach().requires_grad_()
    leaves = [x.detach().float().requires_grad_() for x in exact]
    options = dict(residual=False, norm_eps=1e-30)
    want, _ = external_attention_block(*exact, **options)
    with torch.autocast('cpu', torch.float16):
        out, _ = form(*leaves, **options)
    assert (out - want).norm() < 0.02 * want.norm()
    weight = randn(2, 64, 300, seed=5, dtype=torch.float64)
    grads = torch.autograd.grad((want * weight).sum(), exact)
    got = torch.autograd.grad((out * weight).sum(), leaves)
    for name, g, w in zip(NAMES, got, grads):
        assert (g - w).norm() < 0.02 * w.norm(), name


@pytest.mark.parametrize('form', FAST)
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('control', [False, True])
def test_compiles_to_one_graph(form, norm, control):
    inputs = make_inputs(norm=norm)
    options = make_control() if control else {}
    torch._dynamo.reset()
    compiled = torch.compile(form, fullgraph=True, backend='aot_eager')
    for mask in (None, make_mask(2, 9)):
        check_same(
            run(compiled, inputs, mask=mask, relu=True, **options),
            run(form, inputs, mask=mask, relu=True, **options),
        )


def test_sharp_logits_below_eps():
    """Tokens whose every slot is below eps read next to nothing."""
    inputs = make_inputs(1, 4, 3, 6, norm=False)
    inputs[0] = (inputs[0] * 300).detach().requires_grad_()
    for form in FAST:
        for eps in (1e-9, 0.0):
            check_same(
                run(form, inputs, eps=eps),
                run(external_attention_block, inputs, eps=eps),
            )
