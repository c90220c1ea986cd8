import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmea.layers import SAGANAttention2d

from .layer_tester import LayerTester


def conv(module, x):
    """A 1x1 convolution without bias of (B, C, H, W)."""
    assert module.bias is None
    return torch.einsum('oc,bchw->bohw', module.weight[..., 0, 0], x)


def naive(layer, x):
    """The formula, by an N x N / 4 map."""
    query = conv(layer.query_proj, x).flatten(2)
    key, value = (
        F.max_pool2d(conv(proj, x), 2, ceil_mode=True).flatten(2)
        for proj in (layer.key_proj, layer.value_proj)
    )
    attn = torch.einsum('bdi,bdj->bij', query, key).softmax(2)
    read = torch.einsum('bij,bdj->bdi', attn, value)
    read = read.view(len(x), -1, *x.shape[2:])
    return x + layer.gate.sigma * conv(layer.out_proj, read)


class TestSAGANAttention2d(LayerTester):
    least = 4
    layer, kwargs = SAGANAttention2d, dict(in_channels=6)

    @pytest.mark.parametrize('size', [(2, 5, 7), (1, 4, 6)])
    def test_equals_the_formula(self, size):
        layer = self.make_random(in_channels=17).double()
        x = torch.randn(size[0], 17, *size[1:]).double().requires_grad_()
        got, want = layer(x), naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(x)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_published_sizes_and_initialisation(self):
        for channels, size in ((256, 81_921), (128, 20_481)):
            layer = SAGANAttention2d(channels)
            assert sum(p.numel() for p in layer.parameters()) == size
        assert torch.equal(layer.gate.sigma, torch.zeros(1))
        rows = layer.query_proj.weight.flatten(1)  # orthonormal
        torch.testing.assert_close(rows @ rows.t(), torch.eye(16))
        assert self.make(zero_init=False).gate.sigma == 1
        assert self.make(norm_layer=nn.BatchNorm2d).gate.sigma == 1

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='reduction'):
            SAGANAttention2d(8, reduction=8)
