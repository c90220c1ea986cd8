import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from mmea.gan import SpectralNorm, add_spectral_norm
from mmea.layers import ExternalAttention2d, SAGANExternalAttention2d


def unit(x):
    return x / x.norm()


def test_one_step_is_in_the_published_order():
    """Which is not that of torch's parametrisation."""
    torch.manual_seed(0)
    weight = torch.randn(3, 5, 2).double()
    norm = SpectralNorm(weight)
    u = unit(torch.randn(3).double())
    norm.u.copy_(u)
    got = norm(weight)
    v = unit(weight.flatten(1).t() @ u)
    u = unit(weight.flatten(1) @ v)
    torch.testing.assert_close(norm.u, u)
    torch.testing.assert_close(norm.v, v)
    want = weight / (u @ weight.flatten(1) @ v)
    torch.testing.assert_close(got, want)
    assert torch.equal(norm.eval()(weight), got)
    assert torch.equal(norm.u, u)  # in eval mode no step


def test_converges_to_the_singular_value():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3)
    theirs = spectral_norm(copy.deepcopy(conv))
    ours = add_spectral_norm(conv)
    for _ in range(200):
        _ = ours.weight, theirs.weight
    for layer in (ours, theirs):
        matrix = layer.weight.flatten(1)
        norm = torch.linalg.matrix_norm(matrix, 2)
        torch.testing.assert_close(norm, torch.tensor(1.0))
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_two_passes_before_the_backward_one():
    layer = add_spectral_norm(nn.Linear(3, 2))
    x = torch.randn(4, 3)
    (layer(x) - layer(2 * x)).square().sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


def test_autocast_leaves_the_norm_alone():
    torch.manual_seed(0)
    layer = add_spectral_norm(nn.Linear(64, 64))
    other = copy.deepcopy(layer)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        layer(torch.randn(2, 64))
    other(torch.randn(2, 64))
    for a, b in zip(layer.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)


def test_every_matrix_and_nothing_else():
    layer = SAGANExternalAttention2d(4, num_slots=3)
    add_spectral_norm(layer)
    assert {n for n, _ in layer.named_parameters()} == {
        'parametrizations.key_memory.original',
        'parametrizations.value_memory.original',
        'in_proj.parametrizations.weight.original',
        'out_proj.parametrizations.weight.original',
        'gate.sigma',
    }
    layer = add_spectral_norm(
        SAGANExternalAttention2d(4, num_slots=3, spectral_memories=False)
    )
    assert isinstance(layer.key_memory, nn.Parameter)
    assert 'parametrizations' in dict(layer.in_proj.named_children())


def test_one_forward_is_one_step():
    """What checks the input's dtype must not read a computed weight."""
    torch.manual_seed(0)
    for member in (SAGANExternalAttention2d(4), ExternalAttention2d(4)):
        conv = add_spectral_norm(member.in_proj)
        norm = copy.deepcopy(conv.parametrizations.weight[0])
        norm(conv.parametrizations.weight.original)
        member(torch.randn(1, 4, 3, 3))
        assert torch.equal(conv.parametrizations.weight[0].u, norm.u)


def test_a_zero_matrix_is_refused():
    model = nn.Sequential(nn.Conv2d(2, 4, 1), ExternalAttention2d(4))
    message = r'1\.out_proj\.weight is zero.*zero_init=False'
    with pytest.raises(ValueError, match=message):
        add_spectral_norm(model)
    with pytest.raises(ValueError, match='eps.*-1'):
        add_spectral_norm(nn.Linear(2, 2), eps=-1)
