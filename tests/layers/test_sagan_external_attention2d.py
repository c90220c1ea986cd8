import pytest
import torch
from torch import nn

from mmea.layers import SAGANExternalAttention2d, switch_to_deploy

from .layer_tester import LayerTester


def naive(layer, x):
    """The formula, slot by slot."""
    tokens = x
    if isinstance(layer.in_proj, nn.Conv2d):
        tokens = torch.einsum(
            'oc,bchw->bohw', layer.in_proj.weight[..., 0, 0], x
        )
    tokens = tokens.flatten(2)
    attn = torch.stack(
        [(tokens * slot[:, None]).sum(1) for slot in layer.key_memory], 1
    ).softmax(2)  # (B, S, N)
    attn = attn / (layer.eps + attn.sum(1, keepdim=True))
    read = torch.einsum('bsn,sc->bcn', attn, layer.value_memory)
    if isinstance(layer.out_proj, nn.Conv2d):
        read = torch.einsum(
            'oc,bcn->bon', layer.out_proj.weight[..., 0, 0], read
        )
    return x + layer.gate.sigma * read.view_as(x)


class TestSAGANExternalAttention2d(LayerTester):
    layer = SAGANExternalAttention2d
    kwargs = dict(in_channels=6, num_slots=5)

    def make_random(self, **more):
        layer = super().make_random(**more)
        nn.init.constant_(layer.gate.sigma, 1.5)
        return layer

    @pytest.mark.parametrize('project', [True, False])
    @pytest.mark.parametrize('size', [(2, 5, 7), (1, 3, 2)])
    def test_equals_the_formula(self, project, size):
        layer = self.make_random(project=project, eps=1e-3).double()
        x = self.input(*size, dtype=torch.float64).requires_grad_()
        got, want = layer(x), naive(layer, x)
        torch.testing.assert_close(got, want)
        weight = self.input(*size, dtype=torch.float64, seed=3)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_sizes_and_initialisation(self):
        torch.manual_seed(0)
        layer = SAGANExternalAttention2d(256)
        size = sum(p.numel() for p in layer.parameters())
        assert size == 2 * 256**2 + 2 * 64 * 256 + 1
        assert torch.equal(layer.gate.sigma, torch.zeros(1))
        assert torch.equal(layer.key_memory, layer.value_memory)
        assert layer.key_memory.std().item() == pytest.approx(
            (2 / 256) ** 0.5, 0.05
        )
        layer = SAGANExternalAttention2d(256, project=False)
        assert [n for n, _ in layer.named_parameters()] == [
            'key_memory',
            'value_memory',
            'gate.sigma',
        ]
        assert self.make(zero_init=False).gate.sigma == 1

    def test_is_not_folded(self):
        with pytest.raises(ValueError, match='an attend.. of its own'):
            switch_to_deploy(self.make())

    @pytest.mark.parametrize(
        ('name', 'value'),
        [('num_slots', 0), ('eps', -1), ('project', 'no'),
         ('spectral_memories', 1)],
    )  # fmt: skip
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})
