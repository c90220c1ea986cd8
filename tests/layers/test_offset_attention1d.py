import copy

import pytest
import torch
from torch import nn

from mmea.layers import OffsetAttention1d
from mmea.scale import collect_token_stats
from tests.host_oracle import host_cases
from tests.test_oracle import Case, build

FORMS = [dict(external=e, offset=o) for e in (0, 1) for o in (0, 1)]
FORMS = [{k: bool(v) for k, v in form.items()} for form in FORMS]
forms = pytest.mark.parametrize('form', FORMS, ids=str)


def make(dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    layer = OffsetAttention1d(6, **{'num_slots': 5, **kwargs})
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    return layer.to(dtype)


def points(*size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def conv(module, x):
    out = module.weight[:, :, 0] @ x
    return out if module.bias is None else out + module.bias[:, None]


def naive(layer, x, mask):
    """Cloud by cloud, without its padding, norm over what is left."""
    out = torch.zeros_like(x)
    for i, valid in enumerate(mask):
        cloud = x[i][:, valid]
        if layer.external:
            logits, values = layer.key_memory @ cloud, layer.value_memory.t()
        else:
            query = conv(layer.query_proj, cloud)
            logits, values = query.t() @ query, conv(layer.value_proj, cloud)
        # Rows are what is read, columns who reads.
        attn = logits.exp() / logits.exp().sum(1, keepdim=True)
        attn = attn / (layer.eps + attn.sum(0))
        read = values @ attn
        out[i][:, valid] = conv(
            layer.out_proj, cloud - read if layer.offset else read
        )
    flat = out.transpose(1, 2)[mask]  # (M, C)
    mean, var = flat.mean(0), flat.var(0, unbiased=False)
    out = (out - mean[:, None]) / (var[:, None] + 1e-5).sqrt()
    out = out * layer.norm.weight[:, None] + layer.norm.bias[:, None]
    return x + out.relu() * mask.unsqueeze(1)


@forms
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('size', [(3, 7), (1, 5)])
def test_equals_the_formula(form, masked, size):
    """Padding is as if it were not there, whatever it holds."""
    layer = make(**form)
    x = points(size[0], 6, size[1])
    mask = torch.ones(size, dtype=torch.bool)
    if masked:
        mask[0, 3:] = mask[-1, 1] = False
    x.requires_grad_()
    weight = points(*x.shape, seed=2) * mask.unsqueeze(1)
    want = naive(layer, x, mask)
    params = [x, *layer.parameters()]
    grads = torch.autograd.grad((want * weight).sum(), params)
    with torch.no_grad():
        x.masked_fill_(~mask.unsqueeze(1), float('nan'))
    got = layer(x, mask if masked else None)
    assert torch.equal(got.isnan().any(1), ~mask)
    loss = got.masked_fill(~mask.unsqueeze(1), 0).mul(weight).sum()
    torch.testing.assert_close(
        got.masked_fill(~mask.unsqueeze(1), 0), want * mask.unsqueeze(1)
    )
    for g, w in zip(torch.autograd.grad(loss, params), grads):
        torch.testing.assert_close(g, w, atol=1e-8, rtol=1e-6)


@forms
@pytest.mark.parametrize('norm', [None, nn.BatchNorm1d, nn.InstanceNorm1d])
def test_a_mask_of_all_is_none(form, norm):
    layer, x = make(norm_layer=norm, **form), points(2, 6, 7)
    mask = torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(layer(x, mask), layer(x))
    group = make(norm_layer=lambda c: nn.GroupNorm(2, c), **form)
    torch.testing.assert_close(group(x, mask), group(x))


@forms
def test_cloud_without_points(form):
    layer, x = make(**form), points(2, 6, 5).requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1] = False
    y = layer(x, mask)
    assert torch.equal(y[1], x[1])
    torch.testing.assert_close(y[:1], layer(x[:1]))
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert torch.equal(layer(x, mask & False), x)


@pytest.mark.parametrize('offset', [True, False])
@pytest.mark.parametrize('norm', [None, nn.BatchNorm1d])
def test_packed_equals_the_mask(offset, norm):
    """Output, gradients and statistics; an empty cloud among them."""
    layer = make(external=True, offset=offset, norm_layer=norm)
    other = copy.deepcopy(layer)
    mask = torch.arange(7) < torch.tensor([4, 0, 7, 1])[:, None]
    offsets = torch.tensor([0, 4, 4, 11, 12])
    x = points(4, 6, 7).requires_grad_()
    packed = x.mT[mask].t()[None]  # (1, C, 12)
    outs = [layer(packed, offsets=offsets)[0].t(), other(x, mask).mT[mask]]
    torch.testing.assert_close(*outs)
    weight = points(12, 6, seed=2)
    for got, want in zip(
        *(
            torch.autograd.grad((y * weight).sum(), [x, *m.parameters()])
            for y, m in zip(outs, (layer, other))
        )
    ):
        torch.testing.assert_close(got, want)
    for got, want in zip(layer.buffers(), other.buffers()):
        torch.testing.assert_close(got, want)


def test_what_is_not_packed():
    x, offsets = points(1, 6, 7), torch.tensor([0, 3, 7])
    for kwargs, given, reason in (
        (dict(external=False), dict(), 'need external=True'),
        (dict(norm_layer=nn.InstanceNorm1d), dict(), 'need a batch norm'),
        (dict(), dict(mask=torch.ones(1, 7, dtype=torch.bool)), 'no mask'),
        (dict(), dict(x=points(2, 6, 7)), r'\(1, C, N\), got \(2, 6, 7\)'),
        (dict(), dict(offsets=torch.tensor([0, 8])), 'from 0 to 7'),
    ):
        layer = make(**{'external': True, **kwargs})
        with pytest.raises(ValueError, match=f'offsets .*{reason}'):
            layer(**{'x': x, 'offsets': offsets, **given})
    layer = make(external=True).eval()
    with (
        collect_token_stats(layer),
        pytest.raises(ValueError, match='offsets take no statistics'),
    ):
        layer(x, offsets=offsets)


@forms
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(form, dtype):
    layer = make(dtype, **form)
    x = points(2, 6, 30).to(dtype)
    got = layer(x)
    want = copy.deepcopy(layer).double()(x.double())
    assert got.dtype == dtype
    error = (got - want).abs().max() / want.abs().max()
    assert error < (0.01 if dtype == torch.float16 else 0.05)


@pytest.mark.parametrize('external', [False, True])
def test_compiles_to_one_graph(external):
    layer, x = make(external=external), points(2, 6, 7)
    torch._dynamo.reset()
    compiled = torch.compile(
        copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(compiled(x), layer(x))


def test_the_external_form_is_linear_in_points():
    """It never makes a tensor of N^2, or of more than S N, numbers."""
    layer, sizes = make(external=True), []

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    with Sizes():
        layer(points(1, 6, 200))
    assert 6 * 200 <= max(sizes) < 7 * 200


def test_initialisation():
    torch.manual_seed(0)
    layer = OffsetAttention1d(64, external=True, num_slots=100)
    assert torch.equal(layer.key_memory, layer.value_memory)
    assert abs(layer.key_memory.std() - (2 / 64) ** 0.5) < 0.01
    before = copy.deepcopy(layer.state_dict())
    for param in layer.parameters():
        nn.init.ones_(param)
    layer.init_weights()
    for name, value in layer.state_dict().items():
        assert ('norm' in name) == torch.equal(value, before[name]), name


def number(**kwargs):
    layer = OffsetAttention1d(256, **kwargs)
    return sum(p.numel() for p in layer.parameters())


def test_published_sizes():
    assert number() == 148_480
    assert number(external=True) == 99_072


def test_bad_input():
    layer, x = make(), points(2, 6, 7)
    with pytest.raises(ValueError, match=r'x must be .* 6, got \(2, 7, 6\)'):
        layer(x.mT)
    with pytest.raises(TypeError, match='x must be torch.float64'):
        layer(x.float())
    for mask in (torch.ones(2, 7), torch.ones(2, 6, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r'mask must be bool \(2, 7\)'):
            layer(x, mask)


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('pct_offset_attention_'))
def test_recorded(path):
    case = Case(path)
    layer = build('pct_attention', case.meta['ctor']['channels'])
    call = layer
    if 'input/xyz' in case.arrays:  # the position, added first
        xyz = case['input/xyz'].requires_grad_()
        call = lambda x: layer(x + xyz)  # noqa: E731
    case.check_module(layer, 'pct_attention', call)
