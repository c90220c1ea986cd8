import copy

import pytest
import torch
from torch import nn

from mmea.layers import HaloAttention2d

from .layer_tester import LayerTester


def naive(layer, x):
    """Query by query, key by key of its window, head by head."""
    batch, _, height, width = x.shape
    q = nn.functional.conv2d(x, layer.query_proj.weight, layer.query_proj.bias)
    k, v = layer.key_proj(x), layer.value_proj(x)
    size, halo = layer.block_size, layer.halo_size
    heads = layer.num_heads
    depth = q.shape[1] // heads
    rows, columns = layer.row_table, layer.column_table
    middle = size + 3 * halo - 1
    lines = []
    for i in range(0, height, layer.stride):
        tops = range(i - i % size - halo, i - i % size + size + halo)
        for j in range(0, width, layer.stride):
            lefts = range(j - j % size - halo, j - j % size + size + halo)
            parts = []
            for h in range(heads):
                query = q[:, h * depth : (h + 1) * depth, i, j]
                own = slice(
                    h * v.shape[1] // heads, (h + 1) * v.shape[1] // heads
                )
                logits, values = [], []
                for y in tops:
                    for z in lefts:
                        inside = 0 <= y < height and 0 <= z < width
                        if layer.masked and not inside:
                            continue
                        key = torch.zeros_like(query)
                        value = torch.zeros_like(v[:, own, 0, 0])
                        if inside:
                            key = k[:, h * depth : (h + 1) * depth, y, z]
                            value = v[:, own, y, z]
                        place = rows[y - i + middle] + columns[z - j + middle]
                        content = (query * key).sum(1) / depth**0.5
                        place = query @ place
                        if layer.scale_position:
                            place = place / depth**0.5
                        logits.append(content + place)
                        values.append(value)
                attn = torch.stack(logits).softmax(0)  # (keys, B)
                parts.append((attn[..., None] * torch.stack(values)).sum(0))
            lines.append(torch.cat(parts, 1))
    out = torch.stack(lines, 2).unflatten(
        2, (-(-height // layer.stride), -(-width // layer.stride))
    )
    return out if layer.out_proj is None else layer.out_proj(out)


class TestHaloAttention2d(LayerTester):
    least = 9
    layer = HaloAttention2d
    kwargs = dict(in_channels=6, block_size=3, halo_size=1, num_heads=2)

    @pytest.mark.parametrize('masked', [False, True])
    @pytest.mark.parametrize('project', [False, True])
    @pytest.mark.parametrize(
        'options',
        [
            dict(),
            dict(scale_position=False, qkv_bias=True, key_channels=4),
            dict(block_size=4, stride=2, halo_size=2),
            dict(block_size=2, stride=2, halo_size=0, out_channels=4),
        ],
    )
    def test_equals_the_loop(self, masked, project, options):
        layer = self.make_random(
            masked=masked, project=project, residual=False, **options
        ).double()
        x = self.input(2, 5, 4, dtype=torch.float64).requires_grad_()
        got, want = layer(x), naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn_like(want)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    @pytest.mark.parametrize('masked', [False, True])
    @pytest.mark.parametrize('size', [(4, 5), (3, 6), (1, 1)])
    def test_every_form_masked_equals_cropped(self, masked, size):
        layer = self.make_random(masked=masked, qkv_bias=True).double()
        height, width = size
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :height, :width] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :height, :width],
            layer(x[..., :height, :width]),
        )

    def test_stride_masked_equals_cropped(self):
        layer = self.make_random(
            stride=3, residual=False, out_channels=4, norm_layer=nn.BatchNorm2d
        ).double()
        crop = copy.deepcopy(layer)
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :3, :5] = True
        y = layer(x, mask)
        assert y.shape == (2, 4, 2, 3)
        torch.testing.assert_close(y[..., :1, :2], crop(x[..., :3, :5]))
        assert y[..., 1:, :].eq(0).all() and y[..., 2:].eq(0).all()
        torch.testing.assert_close(
            layer.norm.running_var, crop.norm.running_var
        )

    @pytest.mark.parametrize(
        'options',
        [
            dict(masked=False, project=False),
            dict(stride=3, residual=False),
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

    def test_reads_its_window_only(self):
        layer = self.make_random()
        x = self.input(1, 9, 12).requires_grad_()
        layer(x)[0, :, 4, 6].sum().backward()
        seen = x.grad[0].abs().sum(0) > 0
        want = torch.zeros(9, 12, dtype=torch.bool)
        want[2:7, 5:10] = True
        assert torch.equal(seen, want)

    def test_identity_without_a_projection(self):
        layer = self.make(project=False, qkv_bias=True)
        x = self.input()
        assert layer.out_proj is None and torch.equal(layer(x), x)

    def test_initialisation(self):
        torch.manual_seed(0)
        layer = HaloAttention2d(512, zero_init=False)
        for conv in (layer.query_proj, layer.key_proj, layer.value_proj):
            assert conv.bias is None
            assert conv.weight.std().item() == pytest.approx(
                512**-0.5, rel=0.02
            )
        assert layer.row_table.shape == (27, 64)
        assert layer.row_table.std().item() == pytest.approx(1 / 8, rel=0.1)
        assert sum(p.numel() for p in layer.parameters()) == 1_052_544
        assert self.make(norm_layer=nn.BatchNorm2d).out_proj.bias is None

    @pytest.mark.parametrize(
        'name',
        [
            'block_size',
            'num_heads',
            'key_channels',
            'value_channels',
            'out_channels',
            'stride',
        ],
    )
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        for value in (-1, True, 1.5):
            with pytest.raises(ValueError, match=f'halo_size.*{value}'):
                self.make(halo_size=value)
        with pytest.raises(ValueError, match='num_heads=4 and key_channels=6'):
            self.make(num_heads=4)
        with pytest.raises(ValueError, match='stride=2 and block_size=3'):
            self.make(stride=2, residual=False)
        with pytest.raises(ValueError, match='value_channels=4 and out'):
            self.make(value_channels=4, project=False)
        with pytest.raises(ValueError, match='out_channels=8.*residual=False'):
            self.make(out_channels=8)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='heads'):
            HaloAttention2d(8, heads=4)
