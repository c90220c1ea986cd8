import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmea.models import ExternalAttention2d
from mmea.registry import MODELS

pytest.importorskip('mmdet.models')

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=5)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def randomise(model):
    """The attention, and no more: nothing of it is the identity then."""
    for layer in model.modules():
        if isinstance(layer, ExternalAttention2d):
            for param in layer.parameters():
                nn.init.normal_(param, std=0.5)
    return model


def test_bfp_takes_no_refine_type():
    with pytest.raises(ValueError, match='refine_type'):
        MODELS.build(
            dict(
                type='mmea.EABFP',
                in_channels=8,
                num_levels=2,
                refine_type='non_local',
            )
        )


def test_bfp_refines_by_the_attention():
    torch.manual_seed(0)
    kwargs = dict(in_channels=8, num_levels=3, refine_level=1)
    neck = MODELS.build(dict(type='mmea.EABFP', attention=ATTENTION, **kwargs))
    plain = MODELS.build(dict(type='BFP', refine_type=None, **kwargs))
    xs = [torch.randn(2, 8, 16 // 2**i, 24 // 2**i) for i in range(3)]
    for got, want in zip(neck(xs), plain(xs)):
        assert torch.equal(got, want)
    randomise(neck)
    plain.refine_type, plain.refine = 'any', neck.refine
    for got, want in zip(neck(xs), plain(xs)):
        assert torch.equal(got, want)
