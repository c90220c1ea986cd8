import copy

import pytest
import torch
from torch import nn

from mmea.layers import ELSA2d

from .layer_tester import LayerTester


def naive(layer, x):
    """Pixel by pixel, with the filter of every channel written out."""
    batch, channels, height, width = x.shape
    depth, size = layer.key_channels, layer.kernel_size
    q, k, v = layer.qkv_proj(x).split([depth, depth, channels], 1)
    hidden = nn.functional.gelu(layer.attn_conv(q * k * layer.qk_scale))
    logits = layer.attn_proj(hidden)
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            attn = logits[:, :, i, j].unflatten(1, (layer.num_heads, -1))
            attn = attn.softmax(2).unflatten(2, (size, size))
            filters = attn.repeat_interleave(channels // layer.num_heads, 1)
            if layer.lam:
                filters = filters * layer.ghost_head[0] ** layer.lam
            if layer.gamma:
                filters = filters + layer.gamma * layer.ghost_head[-1]
            for y in range(size):
                for z in range(size):
                    a, b = i + y - size // 2, j + z - size // 2
                    if 0 <= a < height and 0 <= b < width:
                        out[:, :, i, j] += filters[:, :, y, z] * v[:, :, a, b]
    return layer.out_proj(out)


GHOSTS = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0.5)]


class TestELSA2d(LayerTester):
    least = 9
    layer = ELSA2d
    kwargs = dict(in_channels=6, kernel_size=3, num_heads=2, group_width=2)

    @pytest.mark.parametrize(('lam', 'gamma'), GHOSTS)
    @pytest.mark.parametrize('num_heads', [1, 3])
    def test_equals_the_loop(self, lam, gamma, num_heads):
        layer = self.make_random(
            lam=lam,
            gamma=gamma,
            num_heads=num_heads,
            kernel_size=5,
            qk_scale=None,
            qkv_bias=lam == 0,
        ).double()
        x = self.input(2, 3, 4, dtype=torch.float64).requires_grad_()
        got, want = layer(x), x + naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(want)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), got)

    def test_factor_masked_equals_cropped(self):
        layer = self.make_random(lam=1).double()
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :4, :5], layer(x[..., :4, :5])
        )

    def test_factor_compiles(self):
        layer = self.make_random(lam=1).double()
        torch._dynamo.reset()
        compiled = torch.compile(
            copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
        )
        x = self.input(dtype=torch.float64)
        torch.testing.assert_close(compiled(x), layer(x))

    def test_widths(self):
        assert ELSA2d(512).key_channels == 344
        assert ELSA2d(96, group_width=4).key_channels == 64
        assert ELSA2d(1).key_channels == 8
        layer = self.make(lam=1, gamma=0)
        assert layer.ghost_head.shape == (1, 6, 3, 3)
        assert 'ghost_head' not in self.make(gamma=0).state_dict()
        assert self.make(qk_scale=None).qk_scale == 3**-0.5

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = ELSA2d(512, lam=1, zero_init=False)
        factor, addend = layer.ghost_head
        assert factor.std().item() == pytest.approx(1, rel=0.02)
        assert addend.std().item() == pytest.approx(0.02, rel=0.02)
        for conv in layer.children():
            bound = conv.weight[0].numel() ** -0.5
            for param in conv.parameters():
                assert 0.5 * bound < param.std() < bound
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    @pytest.mark.parametrize(
        'name', ['kernel_size', 'num_heads', 'group_width', 'key_channels']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        for value in (-1, True, 0.5):
            with pytest.raises(ValueError, match=f'lam must be.*{value}'):
                self.make(lam=value)
        with pytest.raises(ValueError, match='odd.*kernel_size=4'):
            self.make(kernel_size=4)
        with pytest.raises(ValueError, match='num_heads=4 and in_channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match='group_width=2 and key_chan'):
            self.make(key_channels=3)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='dim_qk'):
            ELSA2d(8, dim_qk=4)
