import pytest
import torch

from mmea.layers import StandAloneStem2d

from .layer_tester import LayerTester


def naive(layer, x):
    """Pixel by pixel, reading the pixels of its block, head by head."""
    batch, _, height, width = x.shape
    size, heads = layer.block_size, layer.num_heads
    depth = layer.out_channels // heads
    matrices = layer.value_proj.weight[..., 0, 0].chunk(layer.num_mixtures)
    out = x.new_zeros(batch, layer.out_channels, height, width)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                top, left = i - i % size, j - j % size
                query = layer.query_proj.weight[..., 0, 0] @ x[b, :, i, j]
                keys, values = [], []
                for y in range(size):
                    for z in range(size):
                        # Beyond the border all is zero.
                        pixel = torch.zeros_like(x[b, :, 0, 0])
                        if top + y < height and left + z < width:
                            pixel = x[b, :, top + y, left + z]
                        place = layer.row_table[y] + layer.column_table[z]
                        share = torch.stack(
                            [place @ nu for nu in layer.mixture_table]
                        ).softmax(0)
                        matrix = sum(p * w for p, w in zip(share, matrices))
                        keys.append(layer.key_proj.weight[..., 0, 0] @ pixel)
                        values.append(matrix @ pixel)
                for h in range(heads):
                    own = slice(h * depth, (h + 1) * depth)
                    logits = torch.stack([query[own] @ k[own] for k in keys])
                    out[b, own, i, j] = sum(
                        a * v[own] for a, v in zip(logits.softmax(0), values)
                    )
    return out


class TestStandAloneStem2d(LayerTester):
    exports = False
    least = 5
    layer = StandAloneStem2d
    kwargs = dict(in_channels=6, block_size=3, num_mixtures=2, num_heads=2)

    @pytest.mark.parametrize(
        'options',
        [
            dict(),
            dict(in_channels=3, out_channels=4, num_mixtures=4),
            dict(num_heads=3, num_mixtures=1, block_size=1),
        ],
    )
    def test_equals_the_loop(self, options):
        layer = self.make_random(residual=False, **options).double()
        x = self.input(2, 4, 5, dtype=torch.float64)
        x = x[:, : layer.in_channels].requires_grad_()
        got, want = layer(x), naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(want)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_reads_its_block_only(self):
        layer = self.make_random()
        x = self.input(1, 9, 9).requires_grad_()
        layer(x)[0, :, 4, 6].sum().backward()
        seen = x.grad[0].abs().sum(0) > 0
        want = torch.zeros(9, 9, dtype=torch.bool)
        want[3:6, 6:9] = True
        assert torch.equal(seen, want)

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = StandAloneStem2d(3, out_channels=512, residual=False)
        for conv in (layer.query_proj, layer.key_proj, layer.value_proj):
            assert conv.weight.std().item() == pytest.approx(
                (2 / 512) ** 0.5, rel=0.05
            )
        assert layer.num_heads == 8
        assert layer.value_proj.weight.shape == (2048, 3, 1, 1)
        assert layer.row_table.shape == layer.column_table.shape == (4, 64)
        assert layer.row_table.std().item() == pytest.approx(1, rel=0.2)
        assert layer.mixture_table.shape == (4, 64)
        assert layer.mixture_table.std().item() == pytest.approx(
            1 / 8, rel=0.2
        )

    @pytest.mark.parametrize(
        'name', ['block_size', 'num_mixtures', 'num_heads', 'out_channels']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='num_heads=4.*out_channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match='out_channels=8.*residual=False'):
            self.make(out_channels=8)
