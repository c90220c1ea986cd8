"""PSMNet against numbers recorded from the authors' code."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmea.convert import SOURCES, psmnet_rules
from mmea.stereo import PSMNet
from mmea.stereo.blocks import (
    Features,
    Hourglass,
    ResidualBlock,
    make_cost_volume,
    regress_disparity,
)
from tests.host_oracle import host_cases
from tests.test_oracle import Case

pytestmark = pytest.mark.oracle

# The recorded networks are narrow.
SMALL = dict(num_blocks=(1, 2, 1, 1))


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    """Names of the parts, which alone are nothing to convert."""
    for name, part in dict(
        psmnet_features=psmnet_rules.FEATURES,
        psmnet_hourglass=psmnet_rules.HOURGLASS,
        psmnet_block=psmnet_rules.BLOCK,
    ).items():
        source = SOURCES['psmnet']._replace(rules=part)
        monkeypatch.setitem(SOURCES, name, source)


def make_features(case: Case):
    return Features(
        2,
        **SMALL,
        pool_sizes=case.meta['fixed']['pool_sizes'],
        align_corners=case.meta['call']['align_corners'],
        attention=nn.Identity(),
        place='features',
    )


def check_block(case: Case):
    ctor = case.meta['ctor']
    block = ResidualBlock(
        ctor['inplanes'],
        ctor['planes'],
        stride=ctor['stride'],
        dilation=ctor['dilation'],
    )
    case.check_module(block, 'psmnet_block')


def check_features(case: Case):
    case.check_module(make_features(case), 'psmnet_features')


def check_pooling(case: Case):
    net = make_features(case)
    del net.stem, net.layers
    parts = case.x.shape[1] // 3
    case.check_module(
        net,
        'psmnet_features',
        lambda x: net.pool(x[:, :parts], x[:, parts:]),
    )


def check_cost_volume(case: Case):
    right = case['input/right'].requires_grad_()
    levels = case.meta['ctor']['maxdisp'] // 4
    y = make_cost_volume(case.x, right, levels)
    case.compare(y, 'output/y')
    (y * case['cotangent']).sum().backward()
    case.compare(case.x.grad, 'grad/input')
    case.compare(right.grad, 'grad/input/right')


def check_disparity(case: Case):
    corners = case.meta['call']['align_corners']
    y = regress_disparity(case.x, align_corners=corners).unsqueeze(1)
    case.compare(y, 'output/y')
    (y * case['cotangent']).sum().backward()
    case.compare(case.x.grad, 'grad/input')


def check_hourglass(case: Case):
    net = Hourglass(case.meta['ctor']['inplanes'])
    earlier = [
        case.group('input/').get(name) for name in ('presqu', 'postsqu')
    ]
    for value in earlier:
        if value is not None:
            value.requires_grad_()
    names = ('out', 'pre', 'post')
    case.check_module(
        net, 'psmnet_hourglass', lambda x: dict(zip(names, net(x, *earlier)))
    )


def check_network(case: Case):
    net = PSMNet(
        case.meta['ctor']['maxdisp'],
        channels=2,
        **SMALL,
        pool_sizes=case.meta['fixed']['pool_sizes'],
        align_corners=case.meta['call']['align_corners'],
    )
    right = case['input/right'].requires_grad_()

    def call(x):
        outs = [y.unsqueeze(1) for y in net.match(torch.stack([x, right], 1))]
        if not net.training:
            return outs[-1]
        return {f'pred{i + 1}': y for i, y in enumerate(outs)}

    train = case.meta['mode'] == 'train'
    case.check_module(net, 'psmnet', call, some_buffers=train)


CHECKS = {
    'psmnet_basic_block': check_block,
    'psmnet_features': check_features,
    'psmnet_spp': check_pooling,
    'psmnet_cost_volume': check_cost_volume,
    'psmnet_disparity': check_disparity,
    'psmnet_hourglass': check_hourglass,
    'psmnet_eval': check_network,
    'psmnet_train': check_network,
}


@pytest.mark.parametrize('path', host_cases('psmnet_'))
def test_oracle(path: Path):
    (check,) = [
        check for name, check in CHECKS.items() if path.stem.startswith(name)
    ]
    check(Case(path))
