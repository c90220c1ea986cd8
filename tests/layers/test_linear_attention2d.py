import copy

import pytest
import torch
from torch import nn

from mmea.layers import LinearAttention2d

from .layer_tester import LayerTester

MODES = ['position', 'channel', 'dual']


def conv(module, x):
    """A 1x1 convolution of (B, C, N)."""
    out = torch.einsum('oc,bcn->bon', module.weight[..., 0, 0], x)
    return out + module.bias[:, None]


def unit(x, dim):
    return x / x.square().sum(dim, keepdim=True).sqrt()


def naive_position(layer, x):
    """By the N x N map."""
    q = unit(conv(layer.query_proj, x), 1)
    k = unit(conv(layer.key_proj, x), 1)
    v = conv(layer.value_proj, x)
    attn = 1 + torch.einsum('bdi,bdj->bij', q, k)
    below = attn.sum(2) + 1e-6 * q.sum(1)
    return torch.einsum('bij,bcj->bci', attn, v) / below[:, None]


def naive_channel(x):
    """By the C x C map, whose rows sum to 1."""
    rows = unit(x, 2)
    attn = 1 + torch.einsum('bcn,bdn->bcd', rows, rows)
    attn = attn / attn.sum(2, keepdim=True)
    return torch.einsum('bcd,bdn->bcn', attn, x)


def naive_compat(x):
    """Term by term, as the published code computes it."""
    n = x.shape[2]
    unit_x = unit(x, 1)
    gram = torch.einsum('bcn,bmn->bcm', x, unit_x)
    above = x.sum(1)[:, None] + torch.einsum('bcm,bmn->bcn', gram, unit_x)
    sums = unit_x.sum(1) + 1e-6
    return above / (n + torch.einsum('bcn,bn->bc', unit_x, sums))[..., None]


class TestLinearAttention2d(LayerTester):
    layer = LinearAttention2d
    kwargs = dict(in_channels=6, mode='dual', reduction=2)

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('compat', [False, True])
    def test_equals_the_formula(self, mode, compat):
        layer = self.make_random(mode=mode, compat=compat).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        tokens, want = x.flatten(2), 0
        if mode != 'channel':
            want = layer.out_proj.gamma[0] * naive_position(layer, tokens)
        if mode != 'position':
            channel = naive_compat if compat else naive_channel
            want = want + layer.out_proj.gamma[-1] * channel(tokens)
        want = x + want.view_as(x)
        got = layer(x)
        torch.testing.assert_close(got, want)
        weight = self.input(dtype=torch.float64, seed=3)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_compat_masked_equals_cropped(self):
        layer = self.make_random(mode='channel', compat=True).double()
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :4, :5], layer(x[..., :4, :5])
        )

    def test_gradients_by_finite_differences(self):
        layer = self.make_random(norm_layer=nn.BatchNorm2d).double()
        torch.autograd.gradcheck(
            layer, self.input(2, 2, 3, dtype=torch.float64).requires_grad_()
        )

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('compat', [False, True])
    def test_zero_tokens(self, mode, compat):
        """The published code divides 0 by 0."""
        layer = self.make_random(mode=mode, compat=compat)
        for name, param in layer.named_parameters():
            if name.endswith('bias'):
                nn.init.zeros_(param)
        x = self.input()
        x[:, :, :2] = 0
        x[:, 1] = 0
        x.requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        assert y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    def test_opposite_keys(self):
        """Weights of 1 - 1 = 0, and nothing else to divide by."""
        # Of one channel, whose length 1 has no rounding.
        layer = self.make(mode='position', reduction=6, zero_init=False)
        nn.init.zeros_(layer.query_proj.weight)
        nn.init.zeros_(layer.key_proj.weight)
        nn.init.constant_(layer.query_proj.bias, 0.5)
        nn.init.constant_(layer.key_proj.bias, -0.5)
        y = layer(self.input())
        y.sum().backward()
        assert y.isfinite().all() and y.abs().max() < 100
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize('compat', [False, True])
    def test_half_precision(self, dtype, compat):
        """Sums that float16 does not hold."""
        layer = self.make_random(compat=compat).to(dtype)
        exact = copy.deepcopy(layer).double()
        x = (200 * self.input(2, 16, 16).abs()).to(dtype)
        y, want = layer(x), exact(x.double())
        assert y.isfinite().all()
        error = (y - want).abs().max() / want.abs().max()
        assert error < 8 * torch.finfo(dtype).eps

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = LinearAttention2d(512)
        assert torch.equal(layer.out_proj.gamma, torch.zeros(1))
        for conv in (layer.query_proj, layer.key_proj, layer.value_proj):
            for param in conv.parameters():
                assert param.abs().max() <= 512**-0.5
                assert param.std() > 0.5 * 512**-0.5
        assert layer.query_proj.out_channels == 64
        assert sum(p.numel() for p in layer.parameters()) == 328_321
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.gamma.eq(1).all()
        layer = LinearAttention2d(3, mode='channel')
        assert [*layer.state_dict()] == ['out_proj.gamma']

    @pytest.mark.parametrize('mode', MODES)
    def test_tokens_are_a_set(self, mode):
        """Permuting the pixels permutes the output."""
        layer, x = self.make_random(mode=mode), self.input(1, 1, 12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])

    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_arguments(self, value):
        with pytest.raises(ValueError, match=f'reduction.*{value}'):
            self.make(reduction=value)
        with pytest.raises(ValueError, match="mode.*dual.*mode='pixel'"):
            self.make(mode='pixel')

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='in_places'):
            LinearAttention2d(8, in_places=8)
