"""What every dense attention layer must do."""

import copy

import pytest
import torch
from torch import nn


class LayerTester:
    """Subclass it, name it ``Test...`` and set ``layer`` and ``kwargs``."""

    layer: type[nn.Module]
    kwargs: dict
    compile_dtype = torch.float64

    def make(self, **more) -> nn.Module:
        torch.manual_seed(0)
        return self.layer(**{**self.kwargs, **more})

    def make_random(self, **more) -> nn.Module:
        """Without the zeros of the start, which would hide errors."""
        layer = self.make(**more)
        for param in layer.parameters():
            nn.init.normal_(param, std=0.3)
        return layer

    def input(self, batch=2, height=5, width=7, seed=1, **kwargs):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(
            batch,
            self.kwargs['in_channels'],
            height,
            width,
            generator=generator,
        ).to(**kwargs)

    @pytest.mark.parametrize('norm', [None, nn.BatchNorm2d, nn.InstanceNorm2d])
    def test_is_the_identity_at_the_start(self, norm):
        layer = self.make(norm_layer=norm)
        x = self.input()
        assert torch.equal(layer(x), x)
        # A host's Kaiming pass and then its init_weights.
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight)
        layer.init_weights()
        assert torch.equal(layer(x), x)

    def test_output_moves_after_a_step(self):
        """Zero at the start, but not stuck there."""
        layer = self.make(norm_layer=nn.BatchNorm2d)
        x = self.input()
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (layer(x) * self.input(seed=3)).sum().backward()
            optimizer.step()
        assert (layer(x) - x).abs().max() > 1e-3

    @pytest.mark.parametrize('size', [(1, 1, 1), (1, 5, 1), (2, 3, 8)])
    def test_every_parameter_gets_a_gradient(self, size):
        layer = self.make_random()
        (layer(self.input(*size)) * self.input(*size, seed=2)).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())

    def test_images_do_not_meet(self):
        layer = self.make_random()
        x = self.input(3)
        torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))

    def test_without_residual(self):
        layer, x = self.make_random(), self.input()
        bare = copy.deepcopy(layer)
        bare.residual = False
        torch.testing.assert_close(layer(x), x + bare(x))
        torch.testing.assert_close(bare(x), layer.attend(x))
        assert not torch.equal(
            self.make(residual=False)(x), torch.zeros_like(x)
        )

    def test_state_dict_round_trip(self):
        layer = self.make_random(norm_layer=nn.BatchNorm2d)
        x = self.input()
        layer(x)  # moves the running statistics
        other = self.make(norm_layer=nn.BatchNorm2d)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other.eval()(x), layer.eval()(x))

    def test_channels_last(self):
        layer, x = self.make_random(), self.input()
        torch.testing.assert_close(
            layer(x.to(memory_format=torch.channels_last)), layer(x)
        )

    def test_checkpointing_changes_nothing(self):
        plain = self.make_random(norm_layer=nn.BatchNorm2d)
        saving = copy.deepcopy(plain)
        saving.with_cp = True
        xs = [self.input().requires_grad_() for _ in range(2)]
        for layer, x in zip((plain, saving), xs):
            (layer(x) * self.input(seed=3)).sum().backward()
        torch.testing.assert_close(xs[0].grad, xs[1].grad)
        for a, b in zip(plain.parameters(), saving.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        # Running statistics too, and the number of batches: one.
        for a, b in zip(plain.buffers(), saving.buffers()):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize('train', [False, True])
    def test_bf16_autocast_is_near_float64(self, train):
        layer = self.make_random(norm_layer=nn.BatchNorm2d).train(train)
        exact = copy.deepcopy(layer).double()
        x, weight = self.input(2, 9, 11), self.input(2, 9, 11, seed=3)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = layer(x)
        want = exact(x.double())
        assert (out - want).abs().max() < 0.05 * (want - x).abs().max()
        (out.float() * weight).sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_weights_are_near_float64(self, dtype):
        layer = self.make_random().to(dtype)
        exact = copy.deepcopy(layer).double()
        x = self.input(2, 9, 11).to(dtype)
        y, want = layer(x), exact(x.double())
        assert y.dtype == dtype
        assert (y - want).abs().max() < 0.05 * (want - x).abs().max()
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    @pytest.mark.parametrize(
        'backend',
        [
            'aot_eager',
            pytest.param('inductor', marks=pytest.mark.slow),
        ],
    )
    def test_compiles_to_one_graph(self, backend):
        layer = self.make_random(
            norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU
        ).to(self.compile_dtype)
        torch._dynamo.reset()
        compiled = torch.compile(
            copy.deepcopy(layer), fullgraph=True, backend=backend
        )
        xs = [
            self.input(dtype=self.compile_dtype).requires_grad_()
            for _ in range(2)
        ]
        outs = [f(x) for f, x in zip((layer, compiled), xs)]
        torch.testing.assert_close(*outs)
        for out in outs:
            (out * self.input(seed=3)).sum().backward()
        torch.testing.assert_close(xs[0].grad, xs[1].grad)

    @pytest.mark.parametrize('name', ['in_channels'])
    @pytest.mark.parametrize('value', [0, -4, 2.5])
    def test_bad_sizes_name_the_argument(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})

    @pytest.mark.parametrize(
        'norm',
        [
            None,
            nn.BatchNorm2d,
            nn.InstanceNorm2d,
            lambda c: nn.GroupNorm(2, c),
        ],
    )
    @pytest.mark.parametrize('train', [False, True])
    def test_mask_equals_cropping(self, norm, train):
        """A padded batch of equal crops against the crops."""
        layer = (
            self.make_random(norm_layer=norm, act_layer=nn.ReLU)
            .double()
            .train(train)
        )
        crop = copy.deepcopy(layer)
        x = self.input(dtype=torch.float64)
        x[:, :, 4:] = 1e3
        x[:, :, :, 5:] = float('nan')
        mask = torch.zeros(2, 5, 7, dtype=torch.bool)
        mask[:, :4, :5] = True
        x.requires_grad_()
        valid = x.detach()[..., :4, :5].clone().requires_grad_()
        got, want = layer(x, mask)[..., :4, :5], crop(valid)
        torch.testing.assert_close(got, want)
        weight = self.input(dtype=torch.float64, seed=3)[..., :4, :5]
        (got * weight).sum().backward()
        (want * weight).sum().backward()
        torch.testing.assert_close(x.grad[..., :4, :5], valid.grad)
        for a, b in zip(layer.buffers(), crop.buffers()):
            torch.testing.assert_close(a, b)

    def test_ragged_mask(self):
        """Images of different sizes; one of them has no valid token."""
        layer = self.make_random(norm_layer=nn.BatchNorm2d)
        x = self.input(3)
        mask = torch.zeros(3, 5, 7, dtype=torch.bool)
        mask[0, :3, :7] = True
        mask[2, :5, :2] = True
        y = layer(x, mask)
        assert torch.equal(y[1], x[1])
        keep = mask.unsqueeze(1).expand_as(x)
        assert torch.equal(y[~keep], x[~keep])
        # Statistics over the 31 valid tokens, whatever the padding holds.
        z = torch.cat(
            [
                layer.attend(x[:1, :, :3])[0].flatten(1),
                layer.attend(x[2:, :, :, :2])[0].flatten(1),
            ],
            1,
        )
        torch.testing.assert_close(
            layer.norm.running_mean, 0.1 * z.mean(1), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            layer.norm.running_var, 0.9 + 0.1 * z.var(1), rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize('norm', [None, nn.BatchNorm2d])
    def test_padding_reaches_nothing(self, norm):
        """NaN in the padding, and an image of padding only."""
        layer = self.make_random(norm_layer=norm)
        x = self.input(3)
        mask = torch.zeros(3, 5, 7, dtype=torch.bool)
        mask[0, :3, :4] = mask[2] = True
        hidden = ~mask.unsqueeze(1).expand_as(x)
        x[hidden] = float('nan')
        y = layer(x.requires_grad_(), mask)
        y[~hidden].square().sum().backward()
        assert y[~hidden].isfinite().all()
        assert x.grad.isfinite().all() and x.grad[hidden].eq(0).all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    def test_full_mask_equals_none(self):
        layer, x = self.make_random(), self.input()
        torch.testing.assert_close(
            layer(x, torch.ones(2, 5, 7, dtype=torch.bool)), layer(x)
        )

    @pytest.mark.parametrize(
        'mask',
        [
            torch.ones(2, 5, 7),
            torch.ones(2, 7, 5, dtype=torch.bool),
            torch.ones(2, 35, dtype=torch.bool),
        ],
    )
    def test_wrong_mask_is_refused(self, mask):
        with pytest.raises(ValueError, match=r'mask must be bool \(2, 5, 7\)'):
            self.make()(self.input(), mask)
