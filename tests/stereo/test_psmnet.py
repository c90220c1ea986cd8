"""PSMNet: sizes, loss, padding, attention at its three places."""

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import nn

from mmea.convert import convert
from mmea.errors import UserError
from mmea.models import build_attention
from mmea.registry import MODELS
from mmea.stereo import PSMNet, VolumeAttention
from mmea.stereo.blocks import make_cost_volume, regress_disparity

SMALL = dict(
    max_disp=16, channels=4, num_blocks=(1, 1, 1, 1), pool_sizes=(4, 2)
)
EA = dict(type='mmea.ExternalAttention2d', num_slots=5)


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(type='mmea.PSMNet', **SMALL | kwargs))


def pairs(*size, batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 2, 3, *size, generator=generator)


def sample(truth):
    return BaseDataElement(metainfo=dict(img_path='a.png'), gt_disparity=truth)


def number(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_the_published_networks():
    with torch.device('meta'):
        net, basic = PSMNet(), PSMNet(form='basic')
    assert number(net) == 5_224_768
    assert number(net.features) == number(basic.features) == 3_339_552
    assert number(net.hourglasses[0]) == 553_664
    assert number(basic) == 3_672_896


def test_initialisation_is_as_published():
    net = build(channels=32)
    for part, fan_out in (
        (net.features.layers[1][0].conv1[0], 9 * 64),
        (net.features.branches[0][0], 32),
        (net.entry[0][0], 27 * 32),
    ):
        want = math.sqrt(2 / fan_out)
        assert part.weight.std().item() == pytest.approx(want, rel=0.05)
    up = net.hourglasses[0].conv5[0]  # torch's own
    bound = 1 / math.sqrt(64 * 27)
    assert 0.98 * bound < up.weight.abs().max() <= bound
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
    assert all(m.weight.eq(1).all() and m.bias.eq(0).all() for m in norms)


def test_basic_is_four_residual_blocks():
    net = build(form='basic').eval()
    x = pairs(16, 32)
    volumes = []
    net.entry.register_forward_hook(lambda *a: volumes.append(a[2].clone()))
    y = net(x)
    [v] = volumes
    assert v.shape == (1, 4, 4, 4, 8)
    for block in net.blocks:
        v = v + block(v)
    cost = F.interpolate(net.heads[0](v), (16, 16, 32), mode='trilinear')
    share = cost[:, 0].softmax(1)
    want = sum(d * share[:, d] for d in range(16))
    assert len(net.blocks) == 4
    torch.testing.assert_close(y, want)


@pytest.mark.parametrize('form', ['hourglass', 'basic'])
def test_loss_is_smooth_l1_where_truth_is_known(form):
    net = build(form=form).train()
    x = pairs(16, 32, batch=2)
    truth = torch.rand(2, 16, 32) * 20
    truth[0, 0, 0], truth[0, 0, 1], truth[1, 3, 4] = math.nan, math.inf, 16.0
    got = net(x, [sample(t) for t in truth], mode='loss')
    found = net.match(x)
    weights = (0.5, 0.7, 1.0)[-len(found) :]
    assert len(found) == (3 if form == 'hourglass' else 1)
    rows = [
        (y - t).abs()
        for y in found
        for y, t in [(y.flatten(), truth.flatten())]
    ]
    known = [i for i, t in enumerate(truth.flatten().tolist()) if t < 16]
    assert 0 < len(known) < truth.numel() - 3
    for i, (weight, row) in enumerate(zip(weights, rows)):
        row = row[known]
        want = torch.where(row < 1, row**2 / 2, row - 0.5).mean()
        torch.testing.assert_close(got[f'loss_{i + 1}'], weight * want)
    torch.testing.assert_close(got['end_point_error'], rows[-1][known].mean())
    assert set(got) == {'end_point_error'} | {
        f'loss_{i + 1}' for i in range(len(found))
    }


def test_no_known_pixel_is_no_loss():
    net = build().train()
    nothing = torch.full((32, 16), math.nan)
    losses = net(pairs(32, 16, batch=2), [sample(nothing)] * 2, mode='loss')
    loss, _ = net.parse_losses(losses)
    loss.backward()
    assert loss == 0 and losses['end_point_error'] == 0
    assert all(p.grad.eq(0).all() for p in net.parameters())


@pytest.mark.parametrize('size', [(16, 32), (19, 33), (31, 17)])
def test_prediction_pads_at_the_top_and_the_right(size):
    net = build(align_corners=True).eval()
    x = pairs(*size)
    [found] = net(x, [sample(None)], mode='predict')
    height, width = 16 * math.ceil(size[0] / 16), 16 * math.ceil(size[1] / 16)
    padded = torch.zeros(1, 2, 3, height, width)
    padded[..., height - size[0] :, : size[1]] = x
    want = net(padded)[0, height - size[0] :, : size[1]]
    assert found.img_path == 'a.png'
    assert found.pred_disparity.shape == size
    assert torch.equal(found.pred_disparity, want)


def test_autocast_does_not_round_disparities():
    costs = 6 * torch.randn(1, 1, 12, 4, 4)
    want = regress_disparity(costs)
    with torch.autocast('cpu', torch.bfloat16):
        got = regress_disparity(costs)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want)


def test_a_shift_between_equal_images_is_found_by_the_volume():
    """Where features match best, the cost volume has equal halves."""
    net = build().eval()
    left = pairs(16, 64)[:, 0]
    features = net.features(left)
    moved = features.roll(-2, 3)  # right pixel x - 2 is left pixel x
    volume = make_cost_volume(features, moved, 4)
    ours, theirs = volume.chunk(2, 1)
    differs = (ours - theirs).abs().amax((0, 1, 3))  # (D, W)
    assert [d for d in range(4) if differs[d, 3:].eq(0).all()] == [2]


@pytest.mark.parametrize('place', ['concat', 'features', 'volume'])
@pytest.mark.parametrize(
    'kind', ['ExternalAttention2d', 'EfficientAttention2d']
)
def test_attention_at_each_place(place, kind):
    x = pairs(16, 32, batch=2)
    plain = build().train()
    net = build(
        attention=dict(type=f'mmea.{kind}'), attention_place=place
    ).train()
    net.init_weights()  # as the Runner does
    more = net.load_state_dict(plain.state_dict(), strict=False)
    where = 'attention.' if place == 'volume' else 'features.attention.'
    assert more.missing_keys and not more.unexpected_keys
    assert all(name.startswith(where) for name in more.missing_keys)
    # It starts as the identity, and takes part as soon as it does not.
    for a, b in zip(net.match(x), plain.match(x), strict=True):
        torch.testing.assert_close(a, b)
    layer = net.get_submodule(where.rstrip('.'))
    layer = getattr(layer, 'layer', layer)
    channels = {'concat': 4 * 8, 'features': 4, 'volume': 4}[place]
    assert layer.in_channels == channels
    for param in layer.parameters():
        nn.init.normal_(param)
    assert (net.match(x)[-1] - plain.match(x)[-1]).abs().max() > 1e-3
    net.match(x)[-1].sum().backward()
    # A softmax over tokens takes a bias of the keys away.
    weights = [p for p in layer.parameters() if p.dim() > 1]
    assert all(p.grad.abs().sum() > 0 for p in weights)


class TestVolumeAttention:
    def build(self, kind, **kwargs):
        torch.manual_seed(0)
        cfg = dict(type=f'mmea.{kind}', zero_init=False, **kwargs)
        return VolumeAttention(cfg, 8).double().eval()

    @pytest.mark.parametrize(
        'kind',
        [
            'EfficientAttention2d',
            'ExternalAttention2d',
            'LinearAttention2d',
            'NonLocal2d',
            'SAGANExternalAttention2d',
            'SelfAttention2d',
        ],
    )
    def test_is_exact(self, kind):
        """The order of the tokens does not count; the layer itself is run."""
        attention = self.build(kind)
        x = torch.randn(2, 8, 3, 5, 4, dtype=torch.float64)
        y = attention(x)
        assert y.shape == x.shape and (y - x).abs().max() > 1e-4
        order = torch.randperm(60)
        mixed = x.flatten(2)[..., order]
        want = attention.layer(mixed.unsqueeze(2)).squeeze(2)
        torch.testing.assert_close(y.flatten(2)[..., order], want)

    @pytest.mark.parametrize(
        'attention',
        [
            dict(type='mmea.HaloAttention2d'),
            dict(type='mmea.ELSA2d'),
            dict(type='mmea.CBAMGate2d'),
            dict(type='mmea.SAGANAttention2d'),
            dict(type='mmea.NonLocal2d', sub_sample=True),
        ],
        ids=str,
    )
    def test_refuses_what_reads_neighbours(self, attention):
        build_attention(attention, 8)  # on maps it is fine
        with pytest.raises(UserError, match='neighbours or the positions'):
            VolumeAttention(attention, 8)

    def test_tells_a_quadratic_cost_once(self, monkeypatch):
        said = []
        monkeypatch.setattr(
            sys.modules['mmea.stereo.volume_attention'],
            'print_log',
            lambda text, *_: said.append(text),
        )
        attention = self.build('NonLocal2d')
        for _ in range(2):
            attention(torch.randn(1, 8, 10, 10, 10, dtype=torch.float64))
        [line] = said
        assert '1,000 tokens compares 1e+06 pairs' in line
        assert '0.00745 GiB' in line
        attention = self.build('ExternalAttention2d')
        attention(torch.randn(1, 8, 10, 10, 10, dtype=torch.float64))
        assert len(said) == 1


@pytest.mark.parametrize(
    'kwargs, words',
    [
        (dict(max_disp=40), 'multiple of 16, got max_disp=40'),
        (dict(form='deep'), 'form must be one of hourglass, basic'),
        (dict(attention_place='head'), 'concat, features, volume'),
        (dict(num_blocks=(1, 2)), 'must be four'),
        (dict(pool_sizes=(4, 0)), 'pool_sizes must be an int >= 1'),
        (dict(loss_weights=(1.0,)), 'loss_weights must be 3'),
        (dict(attention=dict(type='mmea.PCT')), 'no attention on maps'),
    ],
)
def test_arguments_are_checked(kwargs, words):
    with pytest.raises(ValueError, match=words):
        build(**kwargs)


def test_input_is_checked():
    net = build().train()
    with pytest.raises(UserError, match=r'pairs \(B, 2, 3, H, W\), got \(1, '):
        net(torch.randn(1, 6, 16, 32))
    with pytest.raises(UserError, match='16 pixels, got 16 x 24; set'):
        net(pairs(16, 24))
    with pytest.raises(UserError, match='at least 32 pixels a side'):
        build(pool_sizes=(8, 2))(pairs(16, 48))
    with pytest.raises(UserError, match=r'a.png: .* \(16, 32\), got None'):
        net(pairs(16, 32), [sample(None)], mode='loss')
    with pytest.raises(ValueError, match='mode must be one of tensor, loss'):
        net(pairs(16, 32), mode='train')


def test_weights_of_the_basic_form_are_converted():
    """Those of the other are, wherever recorded numbers are compared."""
    names = {
        'feature_extraction.layer2.15.conv1.0.1.running_mean': (
            'features.layers.1.15.conv1.1.running_mean'
        ),
        'feature_extraction.layer3.0.downsample.0.weight': (
            'features.layers.2.0.shortcut.0.weight'
        ),
        'dres0.2.0.weight': 'entry.1.0.weight',
        'dres1.0.1.bias': 'blocks.0.0.1.bias',
        'dres4.2.1.bias': 'blocks.3.1.1.bias',
        'classify.0.0.weight': 'heads.0.0.0.weight',
        'classify.2.weight': 'heads.0.1.weight',
    }
    with torch.device('meta'):
        known = PSMNet(form='basic').state_dict()
    state = {
        f'module.{theirs}': torch.zeros(known[ours].shape)
        for theirs, ours in names.items()
    }
    found = convert(dict(state_dict=state, epoch=1), 'psmnet')
    assert list(found) == list(names.values())
