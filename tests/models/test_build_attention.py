import sys

import pytest
import torch

from mmea import layers
from mmea.models import ExternalAttention2d, build_attention

TYPE = 'mmea.ExternalAttention2d'


def test_builds_with_the_width_of_the_host():
    layer = build_attention(dict(type=TYPE, num_slots=3), 6)
    assert isinstance(layer, ExternalAttention2d)
    assert isinstance(layer, layers.ExternalAttention2d)
    assert layer.key_memory.shape == (3, 6)


def test_no_attention_is_the_identity():
    x = torch.randn(2, 6, 3, 5)
    assert build_attention(None, 6)(x) is x


def test_leaves_the_config_alone():
    cfg = dict(type=TYPE, num_slots=3)
    build_attention(cfg, 6)
    assert cfg == dict(type=TYPE, num_slots=3)


@pytest.mark.parametrize(
    ('cfg', 'error', 'words'),
    [
        (
            dict(type='mmea.ExternalAtention2d'),
            ValueError,
            "did you mean 'mmea.ExternalAttention2d'",
        ),
        (dict(type='nowhere.Attention'), ValueError, 'not registered'),
        (dict(num_slots=3), ValueError, 'attention.type=None'),
        (
            dict(type=TYPE, num_slot=3),
            TypeError,
            "attention.num_slot is .*did you mean 'num_slots'",
        ),
        (dict(type=TYPE, norm_layer=None), TypeError, 'it takes .*norm_cfg'),
        (dict(type=TYPE, in_channels=4), ValueError, 'host has 6 channels'),
        (dict(type=TYPE, num_slots=0), ValueError, 'num_slots=0'),
        (dict(type=TYPE, channels=-1), ValueError, 'channels=-1'),
    ],
)
def test_errors_name_the_thing_and_the_way_out(cfg, error, words):
    with pytest.raises(error, match=words):
        build_attention(cfg, 6)


def test_a_layer_of_others_may_not_know_of_padding(monkeypatch):
    said = []
    monkeypatch.setattr(
        sys.modules['mmea.models.build_attention'],
        'print_log',
        lambda text, *_: said.append(text),
    )
    foreign = dict(type='ContextBlock', ratio=0.5)
    layer = build_attention(foreign, 4)
    assert 'ContextBlock takes no padding mask' in said.pop()
    assert layer(torch.zeros(1, 4, 4, 4)).shape == (1, 4, 4, 4)
    build_attention(foreign, 4, padded=False)
    build_attention(dict(type=TYPE), 4)
    assert not said
