import pytest
import torch
from torch import nn

import mmea
from mmea import layers
from mmea.maps import attention_maps


class Net(nn.Module):
    """A member that is called twice, one that is not, one to be refused."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.twice = layers.ExternalAttention2d(8, num_slots=5)
        self.never = layers.SelfAttention2d(8)
        self.stem = layers.StandAloneStem2d(8)

    def forward(self, x, fail=False):
        x = self.drop(self.norm(self.conv(x)))
        x = self.twice(self.twice(self.stem(x))[..., 1:])
        if fail:
            raise RuntimeError('half way')
        return x + torch.rand(1)


def test_every_call_by_name():
    torch.manual_seed(0)
    net, x = Net(), torch.randn(1, 3, 9, 13)
    found = mmea.attention_maps(net, x)
    assert list(found) == ['twice', 'never', 'stem']
    first, second = found['twice']
    assert first.attention.shape == (1, 5, 5, 7)
    assert second.attention.shape == (1, 5, 5, 6)
    assert found['never'] == ()
    (stem,) = found['stem']
    assert stem.note == 'its pixels read the few in their block alone'
    # What a hook at the same place gets, in eval mode, gives the same.
    net.eval()
    inputs = []
    net.twice.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    net(x)
    (alone,) = attention_maps(net.twice, inputs[1])['']
    assert torch.equal(alone.attention, second.attention)
    assert mmea.attention_maps(nn.Conv2d(3, 3, 1), x) == {}


@pytest.mark.parametrize('fail', [False, True])
def test_leaves_no_trace(fail):
    net, x = Net(), torch.randn(1, 3, 9, 13)
    net.train()
    net.norm.eval()
    net(x).sum().backward()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    grads = [g if g is None else g.clone() for g in
             (p.grad for p in net.parameters())]  # fmt: skip
    modes = [m.training for m in net.modules()]
    random = torch.random.get_rng_state()
    if fail:
        with pytest.raises(RuntimeError, match='half way'):
            attention_maps(net, x, True)
    else:
        attention_maps(net, x)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(not m._forward_hooks for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    for param, grad in zip(net.parameters(), grads):
        assert (param.grad is None) == (grad is None)
        assert grad is None or torch.equal(param.grad, grad)
    assert torch.is_grad_enabled()


def test_pixel_and_grid():
    layer, x = layers.SelfAttention2d(4), torch.randn(1, 4, 5, 7)
    for pixel, want in (
        ((0.5, 0.5), (2, 3)),
        ((1.0, 0.0), (4, 0)),
        ((1, 6), (1, 6)),
    ):
        (seen,) = attention_maps(layer, x, pixel=pixel)['']
        assert seen.pixel == want
    for pixel in ((5, 0), (0, 7), (1.5, 0)):
        with pytest.raises(ValueError, match='ints on the map of 5 x 7'):
            attention_maps(layer, x, pixel=pixel)
    for pixel in (3, (-1, 0), ('a', 1)):
        with pytest.raises(ValueError, match=r'pixel must be \(row, column\)'):
            attention_maps(layer, x, pixel=pixel)
    with pytest.raises(ValueError, match=r'grid must be \(row, column\)'):
        attention_maps(layer, x, grid=(2, 0.5))


def test_no_image_in_the_batch_and_half_precision():
    layer = layers.ExternalAttention2d(4, num_slots=3)
    (seen,) = attention_maps(layer, torch.zeros(0, 4, 5, 7))['']
    assert seen.shares.shape == (0, 3)
    layer = layer.bfloat16()
    (seen,) = attention_maps(layer, torch.randn(1, 4, 5, 7).bfloat16())['']
    assert seen.attention.dtype == torch.float32


def test_registered_layers_know_the_padding():
    registry = pytest.importorskip('mmea.registry')
    padding = pytest.importorskip('mmea.models.padding_mask')
    layer = registry.MODELS.build(
        dict(type='mmea.ExternalAttention2d', in_channels=3, num_slots=4)
    )
    batch = torch.randn(1, 3, 4, 6)
    padding.note_sizes(batch, [(4, 3)])
    (seen,) = attention_maps(layer, batch)['']
    assert seen.mask[0].sum(1).tolist() == [3] * 4
    torch.testing.assert_close(seen.shares.sum(1), torch.ones(1))
