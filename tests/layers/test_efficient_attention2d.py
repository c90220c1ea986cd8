import copy

import pytest
import torch
from torch import nn

from mmea.layers import EfficientAttention2d

from .layer_tester import LayerTester


def conv(module, x):
    """A 1x1 convolution of (B, C, N)."""
    out = torch.einsum('oc,bcn->bon', module.weight[..., 0, 0], x)
    return out + module.bias[:, None]


class TestEfficientAttention2d(LayerTester):
    layer, kwargs = EfficientAttention2d, dict(in_channels=6, num_heads=2)

    @pytest.mark.parametrize('num_heads', [1, 2, 4])
    def test_equals_the_formula(self, num_heads):
        """By the N x N map that the published form never makes."""
        layer = self.make_random(
            key_channels=8, value_channels=12, num_heads=num_heads
        ).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        heads = []
        for q, k, v in zip(
            *(
                conv(proj, x.flatten(2)).chunk(num_heads, 1)
                for proj in (
                    layer.query_proj,
                    layer.key_proj,
                    layer.value_proj,
                )
            )
        ):
            attn = torch.einsum('bdi,bdj->bij', q.softmax(1), k.softmax(2))
            torch.testing.assert_close(
                attn.sum(2), torch.ones_like(attn[..., 0])
            )
            heads.append(torch.einsum('bij,bdj->bdi', attn, v))
        want = x + conv(layer.out_proj, torch.cat(heads, 1)).view_as(x)
        got = layer(x)
        torch.testing.assert_close(got, want)
        weight = self.input(dtype=torch.float64, seed=3)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_gradients_by_finite_differences(self):
        layer = self.make_random(norm_layer=nn.BatchNorm2d).double()
        torch.autograd.gradcheck(
            layer, self.input(2, 2, 3, dtype=torch.float64).requires_grad_()
        )

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        """Sharp keys, sharp queries, half-precision weights, a mask."""
        layer = self.make_random().to(dtype)
        exact = copy.deepcopy(layer).double()
        x = (20 * self.input(2, 16, 16)).to(dtype)
        mask = torch.ones(2, 16, 16, dtype=torch.bool)
        mask[:, :, 11:] = False
        y, want = layer(x, mask), exact(x.double(), mask)
        assert y.isfinite().all()
        error = (y - want).abs().max() / want.abs().max()
        assert error < 8 * torch.finfo(dtype).eps
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = EfficientAttention2d(512, zero_init=False)
        for conv in layer.children():
            for param in conv.parameters():
                bound = conv.in_channels**-0.5
                assert param.abs().max() <= bound
                assert param.std() > 0.5 * bound
        assert sum(p.numel() for p in layer.parameters()) == 787_968
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    @pytest.mark.parametrize(
        ('in_channels', 'num_heads', 'key_channels'),
        [(512, 1, 256), (512, 8, 256), (24, 8, 8), (6, 3, 3), (1, 1, 1)],
    )
    def test_default_widths(self, in_channels, num_heads, key_channels):
        layer = EfficientAttention2d(in_channels, num_heads=num_heads)
        assert layer.query_proj.out_channels == key_channels
        assert layer.key_proj.out_channels == key_channels
        assert layer.value_proj.out_channels == in_channels

    def test_tokens_are_a_set(self):
        """Permuting the pixels permutes the output."""
        layer, x = self.make_random(), self.input(1, 1, 12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])

    def test_bias_of_the_keys_has_no_effect(self):
        layer, x = self.make_random(), self.input()
        want = layer(x)
        nn.init.normal_(layer.key_proj.bias)
        torch.testing.assert_close(layer(x), want)

    @pytest.mark.parametrize(
        'name', ['num_heads', 'key_channels', 'value_channels']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_heads_must_divide_the_channels(self):
        with pytest.raises(ValueError, match='num_heads=2 and key_channels=3'):
            self.make(key_channels=3)
        with pytest.raises(
            ValueError, match='num_heads=4 and value_channels=6'
        ):
            self.make(num_heads=4)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='head_count'):
            EfficientAttention2d(8, head_count=4)
