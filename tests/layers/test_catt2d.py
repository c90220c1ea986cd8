import copy

import pytest
import torch
from torch import nn

from mmea.layers import (
    CATT2d,
    CATTLayer,
    EfficientAttention2d,
    LinearAttention2d,
    SelfAttention2d,
)

from .layer_tester import LayerTester


def naive_path(path, x, context, mask=None):
    """Head by head, mask as an addend."""
    step = x.shape[2] // path.num_heads
    heads = []
    for h in range(path.num_heads):
        own = slice(h * step, (h + 1) * step)
        q = path.query_proj(x)[..., own]
        k = path.key_proj(context)[..., own]
        v = path.value_proj(context)[..., own]
        logits = torch.einsum('bic,bjc->bij', q, k.expand(len(x), -1, -1))
        logits = logits / step**0.5
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], -10000)
        attn = logits.softmax(2)
        heads.append(
            torch.einsum('bij,bjc->bic', attn, v.expand(len(x), -1, -1))
        )
    out = path.attn_norm(path.attn_proj(torch.cat(heads, 2)) + x)
    return path.norm(path.fc2(nn.functional.gelu(path.fc1(out))) + out)


def make_layer(**kwargs):
    torch.manual_seed(0)
    layer = CATTLayer(8, 2, feedforward_channels=12, **kwargs)
    for param in layer.parameters():
        nn.init.normal_(param, std=0.3)
    return layer.double()


def tokens(*size):
    return torch.randn(*size, 8, dtype=torch.float64)


class TestCATTLayer:
    @pytest.mark.parametrize('shared', [False, True])
    @pytest.mark.parametrize('size', [(2, 7), (1, 5), (1, 1)])
    def test_equals_the_formula(self, shared, size):
        layer, x, words = (
            make_layer(shared=shared),
            tokens(*size),
            tokens(1, 6),
        )
        x.requires_grad_()
        words.requires_grad_()
        path = layer.cross_path if shared else layer.in_path
        wants = naive_path(path, x, x), naive_path(layer.cross_path, x, words)
        weights = tokens(*size), tokens(*size)
        grads = []
        for outs in (layer(x, words), wants):
            loss = sum((out * w).sum() for out, w in zip(outs, weights))
            grads.append(
                torch.autograd.grad(loss, [x, words, *layer.parameters()])
            )
        for got, want in zip(layer(x, words), wants):
            torch.testing.assert_close(got, want)
        for got, want in zip(*grads):
            torch.testing.assert_close(got, want)

    def test_masks(self):
        layer, x, words = make_layer(), tokens(3, 7), tokens(1, 6)
        mask = torch.zeros(3, 7, dtype=torch.bool)
        mask[0, :4] = mask[1] = True
        known = torch.tensor([[True, False, True, True, False, True]])
        x[~mask] = float('nan')
        x.requires_grad_()
        outs = layer(x, words, mask, known)
        for got, want in zip(outs, layer(x[:1, :4], words[:, known[0]])):
            torch.testing.assert_close(got[:1, :4], want)
        sum(out.square().sum() for out in outs).backward()
        assert all(out.isfinite().all() for out in outs)
        assert x.grad.isfinite().all() and x.grad[~mask].eq(0).all()

    def test_dropout(self):
        layer, x, words = make_layer(dropout=0.5), tokens(2, 7), tokens(1, 6)
        assert not torch.equal(layer(x, words)[1], layer(x, words)[1])
        layer.eval()
        assert torch.equal(layer(x, words)[1], layer(x, words)[1])

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = CATTLayer(64, 4)
        assert layer.in_path.fc1.out_features == 256
        assert layer.cross_path.fc1.weight.std().item() == pytest.approx(
            0.02, rel=0.05
        )
        assert layer.cross_path.fc1.bias.eq(0).all()
        assert layer.in_path.norm.eps == 1e-12

    @pytest.mark.parametrize(
        'name', ['embed_dims', 'num_heads', 'feedforward_channels']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        kwargs = dict(embed_dims=8, num_heads=2)
        kwargs[name] = value
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            CATTLayer(**kwargs)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='num_heads=3 and embed_dims=8'):
            CATTLayer(8, 3)
        with pytest.raises(ValueError, match='dropout=1'):
            make_layer(dropout=1)


class TestCATT2d(LayerTester):
    layer = CATT2d
    kwargs = dict(in_channels=6, dictionary_size=5, num_heads=2)
    # As in TestSelfAttention2d.
    compile_dtype = torch.float32

    @pytest.mark.parametrize('shared', [False, True])
    def test_equals_the_formula(self, shared):
        layer = self.make_random(shared=shared).double()
        x = self.input(dtype=torch.float64)
        flat = x.flatten(2).mT
        path = layer.layer.cross_path
        inside = naive_path(layer.layer.in_path or path, flat, flat)
        cross = naive_path(path, flat, layer.dictionary)
        both = torch.cat([inside, cross], 2).mT.unflatten(2, (5, 7))
        torch.testing.assert_close(layer(x), x + layer.out_proj(both))

    @pytest.mark.parametrize(
        'member', [EfficientAttention2d, LinearAttention2d, SelfAttention2d]
    )
    def test_any_member_reads_the_sample(self, member):
        layer = self.make_random(in_sample=member).double()
        assert layer.layer.in_path is None
        x = self.input(dtype=torch.float64)
        flat = x.flatten(2).mT
        cross = naive_path(layer.layer.cross_path, flat, layer.dictionary)
        both = torch.cat([layer.in_sample(x), cross.mT.view_as(x)], 1)
        torch.testing.assert_close(layer(x), x + layer.out_proj(both))
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :4, :5], layer(x[..., :4, :5])
        )

    def test_member_with_a_batch_norm_is_not_run_twice(self):
        plain = self.make_random(
            in_sample=lambda c: EfficientAttention2d(
                c, norm_layer=nn.BatchNorm2d
            )
        )
        saving = copy.deepcopy(plain)
        saving.with_cp = True
        for layer in (plain, saving):
            layer(self.input()).square().sum().backward()
        for a, b in zip(plain.parameters(), saving.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        for a, b in zip(plain.buffers(), saving.buffers()):
            torch.testing.assert_close(a, b)

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = CATT2d(64)
        assert layer.dictionary.shape == (1, 500, 64)
        assert layer.dictionary.min() >= 0 and layer.dictionary.max() <= 0.01
        layer = CATT2d(64, in_sample=EfficientAttention2d)
        nn.init.ones_(layer.in_sample.key_proj.weight)
        layer.init_weights()
        assert layer.in_sample.key_proj.weight.std() > 0
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    @pytest.mark.parametrize(
        'name', ['dictionary_size', 'num_heads', 'feedforward_channels']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_other_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='shared=True.*in_sample'):
            self.make(shared=True, in_sample=EfficientAttention2d)
        with pytest.raises(TypeError, match='dict_size'):
            CATT2d(8, dict_size=4)
