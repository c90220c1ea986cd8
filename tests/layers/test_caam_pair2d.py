import pytest
import torch
from torch import nn

from mmea.layers import CaaMPair2d, CBAMGate2d, ExternalAttention2d


def test_pair_of_the_gate():
    torch.manual_seed(0)
    pair = CaaMPair2d(6).eval()
    nn.init.normal_(pair.gate.token_norm.weight)
    assert isinstance(pair.gate, CBAMGate2d)
    x = torch.randn(2, 6, 5, 7)
    causal, spurious = pair(x)
    torch.testing.assert_close(causal, pair.gate(x))
    torch.testing.assert_close(causal + spurious, x)
    # Each a part of x, by a number between 0 and 1.
    assert (causal / x).ge(0).all() and (causal / x).le(1).all()


def test_any_gate_and_a_mask():
    pair = CaaMPair2d(
        4, gate_layer=lambda c: ExternalAttention2d(c, residual=False)
    )
    x = torch.randn(1, 4, 3, 5)
    mask = torch.zeros(1, 3, 5, dtype=torch.bool)
    mask[:, :2] = True
    causal, spurious = pair(x, mask)
    torch.testing.assert_close(causal[:, :, :2], pair(x[:, :, :2])[0])
    assert torch.equal(spurious[:, :, 2:], x[:, :, 2:])


@torch.no_grad()
def test_gate_that_writes_over_its_input():
    pair = CaaMPair2d(
        4, gate_layer=lambda c: ExternalAttention2d(c, inplace=True)
    ).eval()
    nn.init.ones_(pair.gate.out_proj.weight)
    x = torch.randn(1, 4, 13, 15)
    causal, spurious = pair(x.clone())
    torch.testing.assert_close(causal + spurious, x)


def test_bad_arguments():
    with pytest.raises(ValueError, match='in_channels=0'):
        CaaMPair2d(0)
    with pytest.raises(TypeError, match='gate'):
        CaaMPair2d(4, gate=None)


def test_initialisation_again():
    pair = CaaMPair2d(4)
    nn.init.ones_(pair.gate.token_norm.weight)
    pair.init_weights()
    assert pair.gate.token_norm.weight.eq(0).all()
