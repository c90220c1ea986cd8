import pytest
import torch
from torch import nn

from mmea.layers import (
    ExternalAttention2d,
    MultiheadExternalAttention,
    switch_to_deploy,
)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        ExternalAttention2d(6, zero_init=False, norm_layer=nn.BatchNorm2d),
        nn.Sequential(ExternalAttention2d(6, num_slots=3, zero_init=False)),
    ).double()


def test_all_layers_are_folded_to_the_same_numbers():
    model = make_model()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    model(x)  # statistics for the norm
    want = model.eval()(x)
    assert switch_to_deploy(model) == ['1', '2.0']
    assert model[1].deployed and model[2][0].deployed
    torch.testing.assert_close(model(x), want)
    assert switch_to_deploy(model) == ['1', '2.0']
    assert switch_to_deploy(nn.Conv2d(3, 6, 1)) == []


def test_heads_are_folded_too():
    model = nn.Sequential(MultiheadExternalAttention(6, 2), make_model())
    assert switch_to_deploy(model) == ['0', '1.1', '1.2.0']
    assert model[0].deployed


def test_all_or_none():
    model = make_model()
    model[2][0].in_proj.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match=r'^2\.0: .*in_proj has hooks'):
        switch_to_deploy(model)
    assert not model[1].deployed


@pytest.mark.parametrize('name', ['key_memory', 'value_memory'])
def test_parametrised_memory_stays_whole(name):
    layer = ExternalAttention2d(6, zero_init=False)
    x = torch.randn(2, 6, 5, 7)
    nn.utils.parametrize.register_parametrization(layer, name, nn.Tanh())
    want = layer(x)
    with pytest.raises(ValueError, match=f'{name} is no plain parameter'):
        switch_to_deploy(nn.Sequential(layer))
    assert torch.equal(layer(x), want)
