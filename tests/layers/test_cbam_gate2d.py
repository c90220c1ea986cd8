import copy

import pytest
import torch
from torch import nn

from mmea.layers import CBAMGate2d

from .layer_tester import LayerTester


class TestCBAMGate2d(LayerTester):
    layer = CBAMGate2d
    # With a residual, as the tester has it; the default is the bare gate.
    kwargs = dict(in_channels=6, reduction=2, residual=True, zero_init=False)

    @pytest.mark.parametrize('norm', [nn.BatchNorm2d])
    def test_is_the_identity_at_the_start(self, norm):
        layer = self.make(norm_layer=norm, zero_init=True)
        x = self.input()
        assert torch.equal(layer(x), x)
        nn.init.ones_(layer.norm.weight)
        layer.init_weights()
        assert torch.equal(layer(x), x)

    @pytest.mark.parametrize('size', [(1, 1, 1), (1, 5, 1), (2, 3, 8)])
    def test_every_parameter_gets_a_gradient(self, size):
        # One value has no batch statistics.
        layer = self.make_random().train(size != (1, 1, 1))
        (layer(self.input(*size)) * self.input(*size, seed=2)).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())

    def test_images_do_not_meet(self):
        layer = self.make_random().eval()  # but in the batch norm
        x = self.input(3)
        torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))

    def test_ragged_mask(self):
        """The crops one by one; an image of padding only."""
        layer = self.make_random().eval()
        x = self.input(3)
        mask = torch.zeros(3, 5, 7, dtype=torch.bool)
        mask[0, :3, :7] = True
        mask[2, :5, :2] = True
        y = layer(x, mask)
        assert torch.equal(y[1], x[1])
        torch.testing.assert_close(y[:1, :, :3], layer(x[:1, :, :3]))
        torch.testing.assert_close(y[2:, ..., :2], layer(x[2:, ..., :2]))
        keep = mask.unsqueeze(1).expand_as(x)
        assert torch.equal(y[~keep], x[~keep])
        # In training, the gate's statistics are those of the valid tokens.
        layer.train()(x, mask)
        z = torch.cat(
            [
                layer._two_steps(x[:1, :, :3], None)[1].flatten(),
                layer._two_steps(x[2:, ..., :2], None)[1].flatten(),
            ]
        )
        norm = layer.token_norm
        torch.testing.assert_close(
            norm.running_mean, 0.01 * z.mean().view(1), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(
            norm.running_var, 0.99 + 0.01 * z.var().view(1)
        )

    def test_padding_is_no_maximum(self):
        """Its zeros are the largest numbers where all others are negative."""
        layer = self.make_random().eval()
        x = -1 - self.input().abs()
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        torch.testing.assert_close(
            layer(x, mask)[..., :4, :5], layer(x[..., :4, :5])
        )

    def test_equals_the_formula(self):
        layer = self.make_random(residual=False).double().eval()
        x = self.input(dtype=torch.float64)

        def network(z):
            return layer.channel_fc2(layer.channel_fc1(z).clamp(min=0))

        flat = x.flatten(2)
        channels = torch.sigmoid(
            network(flat.mean(2)) + network(flat.max(2).values)
        )
        want = x * channels[:, :, None, None]
        maps = torch.stack([want.max(1).values, want.mean(1)], 1)
        tokens = torch.sigmoid(layer.token_norm(layer.token_conv(maps)))
        torch.testing.assert_close(layer(x), want * tokens)

    def test_gradients_by_finite_differences(self):
        layer = self.make_random().double()
        torch.autograd.gradcheck(
            layer, self.input(2, 2, 3, dtype=torch.float64).requires_grad_()
        )

    def test_checkpointing_without_a_norm_of_the_block(self):
        plain = self.make_random(residual=False)
        saving = copy.deepcopy(plain)
        saving.with_cp = True
        for layer in (plain, saving):
            layer(self.input()).square().sum().backward()
        for a, b in zip(plain.parameters(), saving.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        assert saving.token_norm.num_batches_tracked == 1

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = CBAMGate2d(512)
        assert not layer.residual and layer.channel_fc1.out_features == 32
        assert CBAMGate2d(3).channel_fc1.out_features == 1
        assert layer.token_norm.weight == 0 and layer.token_norm.bias == 0
        assert layer.token_conv.weight.std().item() == pytest.approx(
            (2 / 49) ** 0.5, rel=0.2
        )
        assert sum(p.numel() for p in layer.parameters()) == 33_412

    @pytest.mark.parametrize('name', ['reduction', 'kernel_size'])
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_sizes(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match='odd.*kernel_size=4'):
            self.make(kernel_size=4)
        for norm in (None, nn.InstanceNorm2d):
            with pytest.raises(ValueError, match='zero_init=False'):
                self.make(zero_init=True, norm_layer=norm)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='reduction_ratio'):
            CBAMGate2d(8, reduction_ratio=4)
