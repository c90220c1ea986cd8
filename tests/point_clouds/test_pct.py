import copy

import pytest
import torch
from torch import nn

pytest.importorskip('mmcv')

from mmea.errors import UserError
from mmea.ops import group_neighbours
from mmea.point_clouds import build_point_attention
from mmea.point_clouds.blocks import NeighbourPool
from mmea.registry import MODELS

EAT = dict(type='mmea.OffsetAttention1d', external=True)
SEGMENTOR = dict(stem_channels=128, num_points=(), num_convs=0, position=False)


def build(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='mmea.PCT',
        stem_channels=4,
        num_points=(9, 5),
        num_neighbours=3,
        out_channels=12,
    )
    return MODELS.build({**cfg, **kwargs}).double()


def cloud(*size):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def number(name, **cfg):
    model = MODELS.build(dict(type=f'mmea.{name}', **cfg))
    return sum(p.numel() for p in model.parameters())


def test_published_sizes():
    pct = dict(type='mmea.PCT')
    port = dict(pct, num_convs=2, position=False)
    classifier = dict(name='PointCloudClassifier', num_classes=40)
    assert number(backbone=pct, **classifier) == 2_810_856
    assert number(backbone=port, **classifier) == 2_876_136
    simple = dict(pct, **SEGMENTOR)
    assert number(backbone=simple, **classifier) == 1_360_552
    assert number('PointPartSegmentor', backbone=simple) == 2_446_130
    # Each attention layer of EAT is smaller by as much as it is alone.
    less = 4 * (148_480 - 99_072)
    pct['attention'] = EAT
    assert number(backbone=pct, **classifier) == 2_810_856 - less
    simple['attention'] = EAT
    assert number('PointPartSegmentor', backbone=simple) == 2_429_234


@pytest.mark.parametrize('position', [False, True])
@pytest.mark.parametrize(
    'attention', [None, EAT, dict(type='mmea.ExternalAttention2d')]
)
def test_the_order_of_points_does_not_matter(attention, position):
    """But for the first, from which the sampling starts."""
    net = build(attention=attention, position=position).eval()
    for param in net.parameters():
        nn.init.normal_(param, std=0.5)
    x = cloud(2, 3, 20)
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(19)])
    torch.testing.assert_close(net(x[..., order]), net(x))
    torch.testing.assert_close(net(x[:1]), net(x)[:1])
    all_points = build(attention=attention, num_points=()).eval()
    torch.testing.assert_close(
        all_points(x[..., order]), all_points(x)[..., order]
    )


def test_what_each_layer_gets():
    """Layer by layer, with the position added before each."""
    net = build(num_layers=2, num_points=()).eval()
    x = cloud(1, 3, 7)
    first = net.convs(net.stem(x)) + net.position(x)
    one = net.layers[0](first)
    two = net.layers[1](one + net.position(x))
    torch.testing.assert_close(net(x), net.fuse(torch.cat([one, two], 1)))


@pytest.mark.parametrize('training', [False, True])
def test_neighbours_are_projected_before_they_are_chosen(training):
    torch.manual_seed(0)
    pool = NeighbourPool(10, 7, dict(type='BN1d')).double()
    pool.load_state_dict(
        {k: torch.rand_like(v.double()) for k, v in pool.state_dict().items()}
    )
    again = copy.deepcopy(pool)
    x, y = (cloud(2, 5, 11).requires_grad_() for _ in range(2))
    near, centres = torch.randint(11, (2, 3, 4)), torch.randint(11, (2, 3))
    groups = group_neighbours(y.transpose(1, 2), near, centres)
    one = pool.train(training)(x, near, centres)
    two = again.train(training).reference(groups)
    assert one.shape == (2, 7, 3)
    torch.testing.assert_close(one, two)
    weight = cloud(2, 7, 3)
    (one * weight).sum().backward()
    (two * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for (name, a), b in zip(pool.named_parameters(), again.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for a, b in zip(pool.buffers(), again.buffers()):
        torch.testing.assert_close(a, b)


def test_further_channels():
    """Normals are features; only coordinates tell who is near."""
    net = build(in_channels=6).eval()
    x = cloud(2, 6, 20).requires_grad_()
    y = net(x)
    assert y.shape == (2, 12, 5)
    y.square().sum().backward()
    assert x.grad[:, 3:].abs().max() > 0
    scaled = torch.cat([x[:, :3], 3 * x[:, 3:]], 1)
    assert not torch.allclose(net(scaled), y)


def test_attention_of_a_map():
    torch.manual_seed(0)
    layer = build_point_attention(
        dict(type='mmea.EfficientAttention2d', zero_init=False), 8
    )
    x = torch.randn(2, 8, 5)
    want = layer.layer(x.reshape(2, 8, 1, 5)).reshape(2, 8, 5)
    assert torch.equal(layer(x), want)
    assert torch.equal(build_point_attention(None, 8)(x), x)


@torch.no_grad()
@pytest.mark.parametrize('position', [False, True])
def test_attention_over_its_input(position):
    """Outputs of all layers are joined."""
    attention = dict(
        type='mmea.ExternalAttention2d', zero_init=False, form='low_rank'
    )
    cfg = dict(num_convs=0, position=position)
    nets = [
        build(attention=dict(attention, inplace=inplace), **cfg).eval()
        for inplace in (False, True)
    ]
    outs = [net(cloud(2, 3, 20)) for net in nets]
    torch.testing.assert_close(*outs)


def test_norms_are_the_config_s():
    net = build(norm_cfg=dict(type='GN', num_groups=2), attention=EAT)
    kinds = {type(m) for m in net.modules() if hasattr(m, 'eps')}
    assert nn.GroupNorm in kinds and nn.BatchNorm1d not in kinds
    own = dict(EAT, norm_cfg=dict(type='BN1d'))
    assert isinstance(build(attention=own).layers[0].norm, nn.BatchNorm1d)


def test_bad_input():
    net = build()
    with pytest.raises(UserError, match=r'takes clouds \(B, 3, N\), .*6, 9'):
        net(cloud(2, 6, 9))
    with pytest.raises(UserError, match='a cloud has 8 points, .* needs 9'):
        net(cloud(2, 3, 8))
    x = cloud(2, 3, 9)
    x[1, 0, 4] = float('nan')
    with pytest.raises(ValueError, match='NaN or inf in cloud 1'):
        net(x)
    for points in ((5, 9), (2, 1), (0,), 'a'):
        with pytest.raises(ValueError, match='num_points must'):
            build(num_points=points)
    with pytest.raises(ValueError, match='attention.in_channels=7, .* 16'):
        build(attention=dict(EAT, in_channels=7))
    with pytest.raises(ValueError, match='no attention on maps'):
        build(attention=dict(type='mmea.PCT'))
