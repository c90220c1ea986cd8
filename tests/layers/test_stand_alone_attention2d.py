import copy
import math

import pytest
import torch
from torch import nn

from mmea.layers import StandAloneAttention2d

from .layer_tester import LayerTester

POSITIONS = ['relative', 'absolute', None]


def code(size, channels):
    """The absolute code of one direction, number by number."""
    table = torch.zeros(channels, size, dtype=torch.float64)
    for c in range(channels):
        for p in range(size):
            angle = p / 10000 ** (2 * (c // 2) / channels)
            table[c, p] = math.cos(angle) if c % 2 else math.sin(angle)
    return table


def naive(layer, x):
    """Pixel by pixel, offset by offset, head by head."""
    batch, channels, height, width = x.shape
    placed = x
    if layer.position == 'absolute':
        half = channels // 2
        placed = x + torch.cat(
            [
                code(height, half)[:, :, None].expand(-1, -1, width),
                code(width, channels - half)[:, None].expand(-1, height, -1),
            ]
        )
    q, k, v = (
        torch.einsum('oc,bchw->bohw', proj.weight[..., 0, 0], tokens)
        for proj, tokens in (
            (layer.query_proj, placed),
            (layer.key_proj, placed),
            (layer.value_proj, x),
        )
    )
    radius = layer.kernel_size // 2
    offsets = range(-radius, radius + 1)
    step = layer.out_channels // layer.num_heads
    out = torch.zeros_like(v)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                for h in range(layer.num_heads):
                    own = slice(h * step, (h + 1) * step)
                    logits, values = [], []
                    for y in offsets:
                        for z in offsets:
                            key = torch.zeros_like(q[b, own, i, j])
                            value = torch.zeros_like(key)
                            if 0 <= i + y < height and 0 <= j + z < width:
                                key = k[b, own, i + y, j + z]
                                value = v[b, own, i + y, j + z]
                            if layer.position == 'relative':
                                table = h % len(layer.row_tables)
                                rows = layer.row_tables[table]
                                columns = layer.column_tables[table]
                                r = torch.cat(
                                    [
                                        rows[:, y + radius],
                                        columns[:, z + radius],
                                    ]
                                )
                                key = key + r
                            logits.append(q[b, own, i, j] @ key)
                            values.append(value)
                    attn = torch.stack(logits).softmax(0)
                    out[b, own, i, j] = attn @ torch.stack(values)
    return out


class TestStandAloneAttention2d(LayerTester):
    least = 9
    layer = StandAloneAttention2d
    kwargs = dict(in_channels=6, kernel_size=3, num_heads=2)

    @pytest.mark.parametrize('position', POSITIONS)
    @pytest.mark.parametrize('num_heads', [1, 2])
    @pytest.mark.parametrize('share', [False, True])
    def test_equals_the_loop(self, position, num_heads, share):
        layer = self.make_random(
            out_channels=8,
            kernel_size=5,
            num_heads=num_heads,
            position=position,
            share_tables=share,
            residual=False,
        ).double()
        x = self.input(2, 3, 4, dtype=torch.float64).requires_grad_()
        got, want = layer(x), naive(layer, x)
        assert got.shape == (2, 8, 3, 4)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(want)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    @pytest.mark.parametrize('position', POSITIONS)
    def test_channelwise_has_a_head_per_channel(self, position):
        """But its tables are split once, over all channels."""
        layer = self.make_random(position=position, channelwise=True).double()
        other = self.make_random(
            position=position, num_heads=6, residual=False
        ).double()
        state = layer.state_dict()
        if position == 'relative':
            # A head of one channel has no row offsets of its own: test
            # columns only, by the other three channels.
            nn.init.zeros_(layer.row_tables)
            state = layer.state_dict()
            columns = torch.zeros_like(other.column_tables)
            columns[3:, 0] = layer.column_tables[0]
            state.update(row_tables=other.row_tables, column_tables=columns)
        other.load_state_dict(state)
        x = self.input(dtype=torch.float64)
        torch.testing.assert_close(layer(x), x + other(x))

    @pytest.mark.parametrize('stride', [2, 3])
    @pytest.mark.parametrize('size', [(5, 7), (6, 6), (1, 1)])
    def test_stride(self, stride, size):
        """Means of the squares, the last ones as large as they are."""
        layer = self.make_random(stride=stride, residual=False).double()
        dense = copy.deepcopy(layer)
        dense.stride = 1
        x = self.input(2, *size, dtype=torch.float64)
        y, full = layer(x), dense(x)
        assert y.shape[2:] == tuple(-(-n // stride) for n in size)
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                square = full[
                    ...,
                    i * stride : (i + 1) * stride,
                    j * stride : (j + 1) * stride,
                ]
                torch.testing.assert_close(y[..., i, j], square.mean((2, 3)))

    def test_stride_masked_equals_cropped(self):
        layer = self.make_random(
            stride=2, residual=False, out_channels=4, norm_layer=nn.BatchNorm2d
        ).double()
        crop = copy.deepcopy(layer)
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :3, :5] = True
        y = layer(x, mask)
        torch.testing.assert_close(y[..., :2, :3], crop(x[..., :3, :5]))
        assert y[..., 2:, :].eq(0).all() and y[..., 3:].eq(0).all()
        torch.testing.assert_close(
            layer.norm.running_var, crop.norm.running_var
        )

    @pytest.mark.parametrize('position', ['absolute', None])
    @pytest.mark.parametrize('channelwise', [False, True])
    def test_every_position_masked_equals_cropped(self, position, channelwise):
        layer = self.make_random(position=position, channelwise=channelwise)
        x = self.input()
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :4, :5], layer(x[..., :4, :5])
        )

    @pytest.mark.parametrize(
        'options',
        [
            dict(position='absolute'),
            dict(channelwise=True),
            dict(stride=2, residual=False),
        ],
    )
    def test_other_forms_compile(self, options):
        layer = self.make_random(**options).double()
        torch._dynamo.reset()
        compiled = torch.compile(
            copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
        )
        x = self.input(dtype=torch.float64)
        torch.testing.assert_close(compiled(x), layer(x))

    @pytest.mark.slow
    def test_stride_compiles_with_its_gradient(self):
        """Squares over the border too; no backend but inductor erred."""
        layer = self.make_random(stride=2, residual=False).double()
        torch._dynamo.reset()
        compiled = torch.compile(copy.deepcopy(layer), fullgraph=True)
        xs = [
            self.input(dtype=torch.float64).requires_grad_() for _ in range(2)
        ]
        for f, x in zip((layer, compiled), xs):
            f(x).square().sum().backward()
        torch.testing.assert_close(xs[0].grad, xs[1].grad)

    def test_reads_its_window_only(self):
        layer = self.make_random(kernel_size=5)
        x = self.input(1, 9, 9).requires_grad_()
        layer(x)[0, :, 4, 4].sum().backward()
        seen = x.grad[0].abs().sum(0) > 0
        want = torch.zeros(9, 9, dtype=torch.bool)
        want[2:7, 2:7] = True
        assert torch.equal(seen, want)

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = StandAloneAttention2d(512, zero_init=False)
        for conv in (layer.query_proj, layer.key_proj, layer.value_proj):
            assert conv.weight.std().item() == pytest.approx(
                (2 / 512) ** 0.5, rel=0.01
            )
        assert layer.row_tables.shape == (8, 32, 7)
        assert layer.row_tables.std().item() == pytest.approx(1 / 8, rel=0.1)
        assert sum(p.numel() for p in layer.parameters()) == 790_016
        assert StandAloneAttention2d(
            512, share_tables=True
        ).row_tables.shape == (1, 32, 7)

    @pytest.mark.parametrize(
        ('channels', 'heads'), [(512, 8), (6, 6), (10, 5), (11, 1), (9, 3)]
    )
    def test_default_heads(self, channels, heads):
        assert StandAloneAttention2d(channels).num_heads == heads

    @pytest.mark.parametrize(
        'name', ['kernel_size', 'num_heads', 'out_channels', 'stride']
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='odd.*kernel_size=4'):
            self.make(kernel_size=4)
        with pytest.raises(ValueError, match='num_heads=4.*out_channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match="relative.*position='rel'"):
            self.make(position='rel')
        with pytest.raises(ValueError, match='stride=2.*residual=False'):
            self.make(stride=2)
        with pytest.raises(ValueError, match='out_channels=8.*residual=False'):
            self.make(out_channels=8)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='heads'):
            StandAloneAttention2d(8, heads=4)
