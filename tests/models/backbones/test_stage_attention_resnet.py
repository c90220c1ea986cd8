import copy
import logging
import pickle

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import nn

from mmea.models import StageAttentionResNet
from mmea.registry import MODELS

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=5)
SMALL = dict(base_channels=4, stem_channels=4, init_cfg=None)
# Backbones of the family, their settings and their widths.
FAMILY = {
    'ResNet': dict(depth=18, **SMALL),
    'ResNet-50': dict(depth=50, **SMALL),
    'ResNetV1d': dict(depth=18, **SMALL),
    'ResNeXt': dict(depth=50, groups=2, base_width=4, **SMALL),
    'Res2Net': dict(depth=50, scales=4, base_width=26, **SMALL),
    'ResNeSt': dict(depth=50, groups=1, radix=2, base_width=4, **SMALL),
    'ResNetV1c': dict(depth=18, **SMALL),
}
SCOPES = dict(
    mmdet=[
        'ResNet',
        'ResNet-50',
        'ResNetV1d',
        'ResNeXt',
        'Res2Net',
        'ResNeSt',
    ],
    mmseg=[
        'ResNet',
        'ResNet-50',
        'ResNetV1c',
        'ResNetV1d',
        'ResNeXt',
        'ResNeSt',
    ],
)


@pytest.fixture(params=SCOPES)
def scope(request):
    pytest.importorskip(f'{request.param}.models')
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def quiet():
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


def build(name='ResNet', **kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            dict(
                type='mmea.StageAttentionResNet',
                base=name.split('-')[0],
                attention=ATTENTION,
                **FAMILY[name],
            ),
            **kwargs,
        )
    )


def randomise(block):
    for param in block.parameters():
        nn.init.normal_(param)


def image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 64, 96, generator=generator)


def test_identity_at_the_start_for_the_whole_family(scope):
    for name in SCOPES[scope]:
        model = build(name, after=['C2', 'C5'])
        plain = MODELS.build(
            dict(type=f'{scope}.{name.split("-")[0]}', **FAMILY[name])
        )
        assert isinstance(model, type(plain)), name
        missing, unexpected = model.load_state_dict(
            plain.state_dict(), strict=False
        )
        assert not unexpected
        assert {key.split('.')[1] for key in missing} == {'attention'}
        model.init_weights()
        plain.load_state_dict(model.state_dict(), strict=False)
        plain.eval()
        for out, want in zip(
            model.eval()(image()), plain(image()), strict=True
        ):
            assert torch.equal(out, want), name


@pytest.mark.parametrize('stage', ['C2', 'C3', 'C4', 'C5'])
def test_the_block_follows_its_stage(scope, stage):
    model = build(after=[stage], out_indices=(0, 1, 2, 3)).eval()
    index = int(stage[1]) - 2
    block = getattr(model, f'layer{index + 1}').attention
    want = model(image())
    randomise(block)
    got = model(image())
    for i in range(4):
        # The stages before do not see it, those after it do.
        assert torch.equal(got[i], want[i]) == (i < index)
    torch.testing.assert_close(got[index], block(want[index]))


def test_one_class_for_each_base(scope):
    assert type(build()) is type(build())
    assert type(build()) is not type(build('ResNetV1d'))
    copied = copy.deepcopy(build())
    assert isinstance(copied, StageAttentionResNet)
    again = pickle.loads(pickle.dumps(build()))
    assert type(again) is type(copied) is type(build())
    for got, want in zip(again(image()), build()(image())):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize('frozen', [-1, 1, 4])
def test_trained_whatever_is_frozen(scope, frozen):
    model = build(
        after=['C2', 'C4'],
        frozen_stages=frozen,
        norm_eval=True,
        attention=dict(norm_cfg=dict(type='BN'), **ATTENTION),
    )
    model.init_weights()
    model.train()
    for name in ('layer1', 'layer3'):
        stage = getattr(model, name)
        assert stage.attention.training and stage.attention.norm.training
        assert all(p.requires_grad for p in stage.attention.parameters())
        randomise(stage.attention)
        frozen_stage = int(name[-1]) <= frozen
        assert stage[0].conv1.weight.requires_grad != frozen_stage
        assert not stage[0].norm1.training
    before = model.layer1.attention.norm.running_mean.clone()
    outs = model(image())
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for name in ('layer1', 'layer3'):
        for key, param in getattr(model, name).attention.named_parameters():
            assert param.grad is not None, key
    assert not torch.equal(model.layer1.attention.norm.running_mean, before)
    model.eval()
    assert not model.layer1.attention.norm.training


def test_a_block_frozen_by_hand_stays_frozen(scope):
    model = build(after=['C4'], frozen_stages=1)
    model.layer3.attention.key_memory.requires_grad_(False)
    model.train()
    assert not model.layer3.attention.key_memory.requires_grad
    assert model.layer3.attention.value_memory.requires_grad


def test_with_cp_changes_nothing(scope):
    grads = []
    for with_cp in (False, True):
        model = build('ResNet-50', after=['C3'], with_cp=with_cp)
        model.double().train()
        randomise(model.layer2.attention)
        torch.manual_seed(1)
        outs = model(image().double())
        sum((out**2).mean() for out in outs).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_any_member_of_the_family(scope):
    model = build(attention=dict(type='mmea.NonLocal2d'))
    assert type(model.layer3.attention).__name__ == 'NonLocal2d'
    assert model.layer3.attention.in_channels == 16


def test_errors(scope):
    for after in ([], ['C6'], ['layer3'], 'C4'):
        with pytest.raises(ValueError, match='after must list stages of C2'):
            build(after=after)
    with pytest.raises(ValueError, match='C4, got'):
        build(
            after=['C5'],
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(0, 1, 2),
        )
    with pytest.raises(ValueError, match="base='ResNot' is no registered"):
        MODELS.build(dict(type='mmea.StageAttentionResNet', base='ResNot'))
    with pytest.raises(ValueError, match='no stages in the way of ResNet'):
        MODELS.build(
            dict(type='mmea.StageAttentionResNet', base='MobileNetV2')
        )
