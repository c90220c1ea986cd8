import copy

import pytest
import torch
from torch import nn

from mmea.layers import CaaMAttention


def make(**kwargs):
    torch.manual_seed(0)
    layer = CaaMAttention(8, 2, **kwargs)
    for param in layer.parameters():
        nn.init.normal_(param, std=0.3)
    return layer.double()


def tokens(*size):
    return torch.randn(*size, 8, dtype=torch.float64)


def naive(layer, x):
    outs = []
    for sign in (1, -1):
        heads = []
        q, k, v = layer.qkv_proj(x).chunk(3, 2)
        for h in range(2):
            own = slice(4 * h, 4 * h + 4)
            logits = torch.einsum('bic,bjc->bij', q[..., own], k[..., own])
            attn = (sign * logits / 2).softmax(2)
            heads.append(torch.einsum('bij,bjc->bic', attn, v[..., own]))
        outs.append(layer.out_proj(torch.cat(heads, 2)))
    return outs


@pytest.mark.parametrize('size', [(2, 7), (1, 5), (1, 1)])
@pytest.mark.parametrize('qkv_bias', [False, True])
def test_equals_the_formula(size, qkv_bias):
    layer, x = make(qkv_bias=qkv_bias), tokens(*size).requires_grad_()
    weights = [tokens(*size), tokens(*size)]
    grads = []
    for outs in (layer(x), naive(layer, x)):
        loss = sum((out * w).sum() for out, w in zip(outs, weights))
        grads.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    for got, want in zip(layer(x), naive(layer, x)):
        torch.testing.assert_close(got, want)
    for got, want in zip(*grads):
        torch.testing.assert_close(got, want)


def test_mask_equals_cropping():
    layer, x = make(), tokens(3, 7)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0, :4] = mask[1] = True
    x[~mask] = float('nan')
    x.requires_grad_()
    outs = layer(x, mask)
    for got, want in zip(outs, layer(x[:1, :4])):
        torch.testing.assert_close(got[:1, :4], want)
    sum(out.square().sum() for out in outs).backward()
    assert all(out.isfinite().all() for out in outs)
    assert x.grad.isfinite().all() and x.grad[~mask].eq(0).all()


def test_compiles_and_runs_in_bf16():
    layer, x = make(), tokens(2, 7)
    torch._dynamo.reset()
    compiled = torch.compile(
        copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
    )
    want = layer(x)
    for got, out in zip(compiled(x), want):
        torch.testing.assert_close(got, out)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for got, out in zip(layer.float()(x.float()), want):
            assert (got - out).abs().max() < 0.05 * out.abs().max()


def test_dropout():
    layer, x = make(attn_drop=0.5, proj_drop=0.5), tokens(2, 7)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    for got, want in zip(layer.eval()(x), naive(layer, x)):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize('value', [0, -3, True, 1.5])
def test_bad_arguments(value):
    with pytest.raises(ValueError, match=f'embed_dims.*{value}'):
        CaaMAttention(value, 2)
    with pytest.raises(ValueError, match=f'num_heads.*{value}'):
        CaaMAttention(8, value)
    with pytest.raises(ValueError, match='num_heads=3 and embed_dims=8'):
        CaaMAttention(8, 3)
    with pytest.raises(ValueError, match='attn_drop=1'):
        CaaMAttention(8, 2, attn_drop=1)
