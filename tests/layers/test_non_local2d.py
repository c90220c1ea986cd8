import copy

import pytest
import torch
from torch import nn

from mmea.layers import NonLocal2d

from .layer_tester import LayerTester

MODES = ['embedded_gaussian', 'gaussian', 'dot_product', 'concatenation']


def conv(module, x):
    """A 1x1 convolution of (B, C, N)."""
    out = torch.einsum('oc,bcn->bon', module.weight[..., 0, 0], x)
    return out + module.bias[:, None]


def pool(x):
    """2 x 2 windows, an odd last row or column left out."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    x = x[..., : 2 * height, : 2 * width]
    x = x.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    return x.amax((3, 5))


def naive(layer, x):
    tokens = x.flatten(2)
    g = conv(layer.value_proj, tokens)
    theta = phi = tokens
    if layer.mode != 'gaussian':
        theta = conv(layer.query_proj, tokens)
        phi = conv(layer.key_proj, tokens)
    if layer.sub_sample:
        g, phi = (
            pool(y.view(len(x), -1, *x.shape[2:])).flatten(2) for y in (g, phi)
        )
    if layer.mode == 'concatenation':
        n, m = theta.shape[2], phi.shape[2]
        pairs = torch.cat(
            [
                theta[:, :, :, None].expand(-1, -1, -1, m),
                phi[:, :, None, :].expand(-1, -1, n, -1),
            ],
            1,
        )
        w = torch.einsum('c,bcij->bij', layer.pair_weight.flatten(), pairs)
        w = w.clamp(min=0)
    else:
        w = torch.einsum('bci,bcj->bij', theta, phi)
    if layer.mode == 'embedded_gaussian' and layer.use_scale:
        w = w / theta.shape[1] ** 0.5
    if layer.mode in ('gaussian', 'embedded_gaussian'):
        w = w.exp() / w.exp().sum(2, keepdim=True)
    else:
        w = w / phi.shape[2]
    y = torch.einsum('bij,bcj->bci', w, g)
    return x + conv(layer.out_proj, y).view_as(x)


class TestNonLocal2d(LayerTester):
    least = 4
    layer, kwargs = NonLocal2d, dict(in_channels=6)

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('sub_sample', [False, True])
    @pytest.mark.parametrize('use_scale', [False, True])
    def test_equals_the_formula(self, mode, sub_sample, use_scale):
        layer = self.make_random(
            mode=mode, sub_sample=sub_sample, use_scale=use_scale
        ).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        got, want = layer(x), naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = self.input(dtype=torch.float64, seed=3)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('sub_sample', [False, True])
    def test_padding_reaches_no_mode(self, mode, sub_sample):
        """NaN in the padding, ragged windows, an image of padding only."""
        layer = self.make_random(
            mode=mode, sub_sample=sub_sample, norm_layer=nn.BatchNorm2d
        ).eval()
        x = self.input(4)
        mask = torch.zeros(4, 5, 7, dtype=torch.bool)
        mask[0, :3, :5] = mask[2] = mask[3, 0, 0] = True
        hidden = ~mask.unsqueeze(1).expand_as(x)
        x[hidden] = float('nan')
        x.requires_grad_()
        y = layer(x, mask)
        y[~hidden].sum().backward()
        assert y[~hidden].isfinite().all()
        assert x.grad.isfinite().all() and x.grad[hidden].eq(0).all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())
        other = torch.where(hidden, 1e3, x.detach())
        assert torch.equal(layer(other, mask)[~hidden], y[~hidden])
        assert torch.equal(layer(other, mask)[1], other[1])

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('sub_sample', [False, True])
    @pytest.mark.parametrize('size', [(4, 6), (3, 5)])
    def test_every_mode_masked_equals_cropped(self, mode, sub_sample, size):
        layer = self.make_random(mode=mode, sub_sample=sub_sample).double()
        height, width = size
        x = self.input(2, 6, 8, dtype=torch.float64)
        mask = torch.zeros(2, 6, 8, dtype=torch.bool)
        mask[:, :height, :width] = True
        crop = x[..., :height, :width]
        if sub_sample:
            # An odd last row or column is in a window here, and left out of
            # the crop. A copy of it completes the windows.
            rows = torch.arange(height + height % 2).clamp(max=height - 1)
            columns = torch.arange(width + width % 2).clamp(max=width - 1)
            crop = crop[:, :, rows][..., columns]
        torch.testing.assert_close(
            layer(x, mask)[..., :height, :width],
            layer(crop)[..., :height, :width],
        )

    @pytest.mark.parametrize('mode', MODES)
    def test_every_mode_compiles_with_a_mask(self, mode):
        layer = self.make_random(mode=mode, sub_sample=True).double()
        torch._dynamo.reset()
        compiled = torch.compile(
            copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
        )
        x = self.input(dtype=torch.float64)
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :3] = True
        torch.testing.assert_close(compiled(x, mask), layer(x, mask))

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('sub_sample', [False, True])
    def test_every_mode_under_autocast(self, mode, sub_sample):
        layer = self.make_random(mode=mode, sub_sample=sub_sample)
        # Largest in the gaussian mode: raw inputs in the exponent.
        x = self.input(2, 9, 11) * 0.5
        mask = torch.ones(2, 9, 11, dtype=torch.bool)
        mask[:, :, 8:] = False
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = layer(x, mask)
        want = copy.deepcopy(layer).double()(x.double(), mask)
        assert (out - want).abs().max() < 0.05 * (want - x).abs().max()

    @pytest.mark.parametrize('mode', MODES)
    def test_sub_sampling_of_a_thin_map(self, mode):
        """A side of one pixel is not pooled: no key would be left."""
        pooled = self.make_random(mode=mode, sub_sample=True)
        plain = self.make_random(mode=mode)
        x = self.input(2, 1, 1)
        torch.testing.assert_close(pooled(x), plain(x))
        x = self.input(2, 1, 4)
        copies = x.repeat_interleave(2, 2)  # two equal rows
        torch.testing.assert_close(pooled(x), pooled(copies)[:, :, :1])

    @pytest.mark.parametrize('mode', MODES)
    def test_published_initialisation(self, mode):
        torch.manual_seed(0)
        layer = NonLocal2d(512, mode=mode)
        for name, module in layer.named_children():
            if name != 'out_proj':
                assert module.weight.std().item() == pytest.approx(
                    0.01, rel=0.02
                )
                assert module.bias.eq(0).all()
        if mode == 'concatenation':
            assert layer.pair_weight.shape == (2, 256)
            assert layer.pair_weight.std().item() == pytest.approx(
                2**0.5, rel=0.1
            )
        assert all(p.eq(0).all() for p in layer.out_proj.parameters())
        count = dict(gaussian=262_912, concatenation=526_080)
        assert sum(p.numel() for p in layer.parameters()) == count.get(
            mode, 525_568
        )
        layer = NonLocal2d(512, mode=mode, norm_layer=nn.BatchNorm2d)
        assert layer.out_proj.bias is None
        assert layer.out_proj.weight.std().item() == pytest.approx(
            512**-0.5 * 2**0.5, rel=0.02
        )

    def test_width_is_at_least_one(self):
        assert NonLocal2d(5).query_proj.out_channels == 2
        assert NonLocal2d(3, reduction=8).query_proj.out_channels == 1

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
        with pytest.raises(ValueError, match="mode.*gaussian.*mode='gauss'"):
            self.make(mode='gauss')

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='subsample'):
            NonLocal2d(8, subsample=True)
