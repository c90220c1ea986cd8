import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmea.layers import SelfAttention2d

from .layer_tester import LayerTester


class TestSelfAttention2d(LayerTester):
    layer, kwargs = SelfAttention2d, dict(in_channels=6, num_heads=2)
    # In float64 torch's inductor has no backward on a CPU, before the fix of
    # https://github.com/pytorch/pytorch/issues/185539.
    compile_dtype = torch.float32

    @pytest.mark.parametrize('num_heads', [1, 2, 4])
    def test_equals_the_formula(self, num_heads):
        layer = self.make_random(num_heads=num_heads, channels=8).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        tokens = x.flatten(2)
        qkv = torch.einsum(
            'oc,bcn->bon', layer.qkv_proj.weight[..., 0, 0], tokens
        )
        q, k, v = (qkv + layer.qkv_proj.bias[:, None]).split(8, 1)
        heads, width = [], 8 // num_heads
        for i in range(num_heads):
            own = slice(i * width, (i + 1) * width)
            logits = torch.einsum('bdi,bdj->bij', q[:, own], k[:, own])
            attn = (logits / width**0.5).softmax(2)
            heads.append(torch.einsum('bij,bdj->bdi', attn, v[:, own]))
        o = torch.einsum(
            'oc,bcn->bon',
            layer.out_proj.weight[..., 0, 0],
            torch.cat(heads, 1),
        )
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

    @pytest.mark.parametrize('num_heads', [1, 2, 6])
    @pytest.mark.parametrize('size', [(2, 5, 7), (1, 5, 7), (1, 1, 1)])
    @pytest.mark.parametrize(
        'layout', [torch.contiguous_format, torch.channels_last]
    )
    @pytest.mark.parametrize('masked', [False, True])
    def test_takes_the_fused_kernel(self, num_heads, size, layout, masked):
        """Elsewhere torch would form the N x N map without a word."""
        layer = self.make_random(num_heads=num_heads)
        x = self.input(*size).to(memory_format=layout).requires_grad_()
        mask = torch.ones(size, dtype=torch.bool) if masked else None
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            layer(x, mask).sum().backward()

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = SelfAttention2d(512, zero_init=False)
        for conv in (layer.qkv_proj, layer.out_proj):
            for param in conv.parameters():
                assert param.abs().max() <= 512**-0.5
                assert param.std() > 0.5 * 512**-0.5
        assert sum(p.numel() for p in layer.parameters()) == 1_050_624
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    def test_without_biases_of_queries_keys_and_values(self):
        layer, bare = self.make_random(), self.make(qkv_bias=False)
        with torch.no_grad():
            layer.qkv_proj.bias.zero_()
        state = layer.state_dict()
        del state['qkv_proj.bias']
        bare.load_state_dict(state)
        x = self.input()
        torch.testing.assert_close(bare(x), layer(x))
        with pytest.raises(ValueError, match='qkv_bias=0'):
            self.make(qkv_bias=0)

    def test_tokens_are_a_set(self):
        """Permuting the pixels permutes the output."""
        layer, x = self.make_random(), self.input(1, 1, 12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])

    def test_bias_of_the_keys_has_no_effect(self):
        layer, x = self.make_random(), self.input()
        want = layer(x)
        with torch.no_grad():
            layer.qkv_proj.bias[6:12].normal_()
        torch.testing.assert_close(layer(x), want)

    @pytest.mark.parametrize('name', ['num_heads', 'channels'])
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_heads_must_divide_the_channels(self):
        with pytest.raises(ValueError, match='num_heads=4 and channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match='num_heads=2 and channels=5'):
            self.make(channels=5)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='heads'):
            SelfAttention2d(8, heads=4)
