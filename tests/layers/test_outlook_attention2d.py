import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmea.layers import OutlookAttention2d

from .layer_tester import LayerTester


def naive(layer, x):
    """Window by window, and in it reader by reader."""
    batch, channels, height, width = x.shape
    size, step, heads = layer.kernel_size, layer.window_stride, layer.num_heads
    value = layer.value_proj(x).unflatten(1, (heads, -1))
    out = torch.zeros_like(value)
    for row in range(0, height, step):
        for column in range(0, width, step):
            mean = x[..., row : row + step, column : column + step]
            mean = mean.mean((2, 3), keepdim=True)
            logits = layer.attn_proj(mean).reshape(
                batch, heads, size**2, size**2
            )
            attn = (logits / (channels // heads) ** 0.5).softmax(3)
            places = [
                (row + i // size - size // 2, column + i % size - size // 2)
                for i in range(size**2)
            ]
            inside = [
                (i, a, b)
                for i, (a, b) in enumerate(places)
                if 0 <= a < height and 0 <= b < width
            ]
            for i, a, b in inside:
                for j, c, d in inside:
                    out[..., a, b] += attn[:, :, i, j, None] * value[..., c, d]
    return layer.out_proj(out.flatten(1, 2))


SIZES = [(3, 2), (3, 1), (3, 3), (5, 2), (5, 3), (1, 1), (1, 3), (3, 5)]


class TestOutlookAttention2d(LayerTester):
    least = 3
    layer = OutlookAttention2d
    kwargs = dict(in_channels=6, num_heads=2)

    @pytest.mark.parametrize(('kernel_size', 'window_stride'), SIZES)
    @pytest.mark.parametrize('size', [(2, 4, 5), (1, 1, 3)])
    def test_equals_the_loop(self, kernel_size, window_stride, size):
        layer = self.make_random(
            kernel_size=kernel_size,
            window_stride=window_stride,
            value_bias=kernel_size == 5,
        ).double()
        x = self.input(*size, dtype=torch.float64).requires_grad_()
        got, want = layer(x), x + naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(want)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_folds_as_torch_does(self):
        layer = self.make_random(kernel_size=5, window_stride=3).double()
        x = self.input(2, 8, 7, dtype=torch.float64)
        out = torch.randn(2, 2, 3, 3, 3, 5, 5, dtype=torch.float64)
        want = F.fold(
            out.permute(0, 1, 4, 5, 6, 2, 3).flatten(1, 4).flatten(2),
            (8, 7),
            5,
            padding=2,
            stride=3,
        )
        torch.testing.assert_close(layer._fold(out, x).flatten(1, 2), want)

    @pytest.mark.parametrize(('kernel_size', 'window_stride'), SIZES)
    @pytest.mark.parametrize('crop', [(4, 5), (3, 6)])
    def test_every_window_masked_equals_cropped(
        self, kernel_size, window_stride, crop
    ):
        layer = self.make_random(
            kernel_size=kernel_size,
            window_stride=window_stride,
            value_bias=True,
        ).double()
        height, width = crop
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :height, :width] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :height, :width],
            layer(x[..., :height, :width]),
        )

    def test_values_reach_as_far_as_two_windows(self):
        """Of one step: two tokens in one window, which share it."""
        layer = self.make_random(residual=False).double()
        x = self.input(1, 9, 9, dtype=torch.float64)
        with torch.no_grad():
            layer.attn_proj.weight.zero_()
            moved = x.clone()
            moved[..., 4, 4] += 1
            change = (layer(moved) - layer(x)).abs().sum(1)[0]
        seen = torch.zeros(9, 9, dtype=torch.bool)
        seen[3:6, 3:6] = True  # the window around (4, 4), and no other
        assert torch.equal(change > 1e-9, seen)

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = OutlookAttention2d(192, num_heads=6, zero_init=False)
        for conv in layer.children():
            assert conv.weight.std().item() == pytest.approx(0.02, rel=0.02)
            assert conv.bias is None or conv.bias.eq(0).all()
        assert layer.value_proj.bias is None
        assert layer.attn_proj.bias.shape == (6 * 81,)
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    @pytest.mark.parametrize(
        'name', ['kernel_size', 'window_stride', 'num_heads']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='odd.*kernel_size=4'):
            self.make(kernel_size=4)
        with pytest.raises(ValueError, match='num_heads=4 and in_channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match="value_bias='no'"):
            self.make(value_bias='no')
        with pytest.raises(TypeError, match='padding'):
            OutlookAttention2d(8, padding=1)
