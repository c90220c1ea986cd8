import pytest
import torch
from torch import nn

from mmea.layers import ExternalAttention2d

from .layer_tester import LayerTester, MaskTester


class TestExternalAttention2d(MaskTester, LayerTester):
    layer, kwargs = ExternalAttention2d, dict(in_channels=6, num_slots=5)

    def test_equals_the_formula(self):
        layer = self.make_random(channels=4, eps=1e-2).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        f = torch.einsum('oc,bchw->bohw', layer.in_proj.weight[..., 0, 0], x)
        f = (f + layer.in_proj.bias[:, None, None]).flatten(2)
        p = torch.einsum('sc,bcn->bsn', layer.key_memory, f).softmax(2)
        a = p / (1e-2 + p.sum(1, keepdim=True))
        o = torch.einsum('sc,bsn->bcn', layer.value_memory, a)
        o = torch.einsum('oc,bcn->bon', layer.out_proj.weight[..., 0, 0], o)
        want = x + (o + layer.out_proj.bias[:, None]).view_as(x)
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

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = ExternalAttention2d(
            512, norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU, zero_init=False
        )
        std = (2 / 512) ** 0.5
        for weight in (
            layer.key_memory,
            layer.in_proj.weight,
            layer.out_proj.weight,
        ):
            assert abs(weight.mean()) < 0.02 * std
            assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.key_memory.shape == (64, 512)
        assert torch.equal(layer.key_memory, layer.value_memory)
        assert layer.key_memory.data_ptr() != layer.value_memory.data_ptr()
        assert layer.in_proj.bias.abs().max() <= 512**-0.5
        assert layer.in_proj.bias.std() > 0.4 * 512**-0.5
        assert layer.out_proj.bias is None
        assert layer.norm.weight.eq(1).all() and layer.norm.bias.eq(0).all()
        # 0.591 M, as counted from the published block.
        assert sum(p.numel() for p in layer.parameters()) == 591_360

    def test_init_weights_draws_the_same_distribution(self):
        layer = self.make(zero_init=False)
        nn.init.constant_(layer.in_proj.weight, 7)
        layer.init_weights()
        assert layer.in_proj.weight.abs().max() < 5
        assert torch.equal(layer.key_memory, layer.value_memory)

    def test_tokens_are_a_set(self):
        """Permuting the pixels permutes the output."""
        layer, x = self.make_random(), self.input(1, 1, 12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])

    def test_bias_of_in_proj_has_no_effect(self):
        layer, x = self.make_random(), self.input()
        want = layer(x)
        nn.init.normal_(layer.in_proj.bias)
        torch.testing.assert_close(layer(x), want)

    @pytest.mark.parametrize('name', ['num_slots', 'channels'])
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})
        with pytest.raises(ValueError, match='eps'):
            self.make(eps=-1e-9)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='num_slot'):
            ExternalAttention2d(8, num_slot=4)
