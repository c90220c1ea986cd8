"""What every dense attention layer must do."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap


class LayerTester:
    """Subclass it, name it ``Test...`` and set ``layer`` and ``kwargs``."""

    layer: type[nn.Module]
    kwargs: dict
    #: Least height and width of an exported graph: more than one window.
    least = 2
    #: Whether torch.export leaves the batch open.
    exports = True
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

    @pytest.mark.parametrize(
        'shape', [(6, 5, 7), (2, 35), (1, 2, 6, 5, 7), (2, 7, 5, 7)]
    )
    def test_wrong_input_is_refused(self, shape):
        message = r'x must be \(B, C, H, W\) with C = in_channels = 6'
        with pytest.raises(ValueError, match=message) as error:
            self.make()(torch.zeros(shape))
        assert str(error.value).endswith(f'got {shape}')

    @pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.bool])
    def test_integers_are_refused(self, dtype):
        with pytest.raises(TypeError, match=f'x must be .*got {dtype}'):
            self.make()(self.input().to(dtype))

    def test_another_dtype_than_the_weights_is_refused(self):
        layer = self.make()
        if isinstance(getattr(layer, layer.entry, None), nn.Module):
            message = 'torch.float32, as the weights, got torch.float64'
            with pytest.raises(TypeError, match=message):
                layer(self.input(dtype=torch.float64))

    @pytest.mark.parametrize('name', ['norm_layer', 'act_layer'])
    @pytest.mark.parametrize(
        'value', ['BN', dict(type='BN'), nn.ReLU(), lambda *args: 1]
    )
    def test_what_makes_no_module_is_refused(self, name, value):
        with pytest.raises(TypeError, match=f'{name} must make a module'):
            self.make(**{name: value})

    @pytest.mark.parametrize('name', ['residual', 'zero_init', 'with_cp'])
    def test_flags_are_bools(self, name):
        with pytest.raises(ValueError, match=f"{name}='no'"):
            self.make(**{name: 'no'})

    def ready(self) -> nn.Module:
        """As it is exported."""
        return self.make_random().eval().requires_grad_(False)

    def check_sizes(self, layer, graph, height_too=True):
        last = (11, 10) if height_too else (9, 13)
        for size in ((2, 9, 13), (1, 9, 13), (3, *last)):
            x = self.input(*size)
            torch.testing.assert_close(
                graph(x), layer(x), rtol=1e-4, atol=1e-4
            )

    @pytest.mark.parametrize(
        'height_too', [False, pytest.param(True, marks=pytest.mark.slow)]
    )
    def test_exports_at_any_size(self, height_too):
        if not self.exports:
            pytest.skip('torch.export fixes its sizes')
        layer, dim = self.ready(), torch.export.Dim
        sides = {
            axis: dim(name, min=self.least, max=99)
            for axis, name in ((2, 'height'), (3, 'width'))
        }
        exported = torch.export.export(
            layer,
            (self.input(2, 9, 13),),
            dynamic_shapes=(
                {0: dim('batch'), **(sides if height_too else {})},
            ),
        )
        self.check_sizes(layer, exported.module(), height_too)

    @pytest.mark.filterwarnings('ignore:.*jit.*is deprecated')
    def test_is_traced_for_any_size(self):
        layer = self.ready()
        traced = torch.jit.trace(
            layer, self.input(2, 9, 13), check_trace=False
        )
        self.check_sizes(layer, traced)

    @pytest.mark.filterwarnings('ignore')
    def test_onnx_by_the_older_exporter(self):
        """As mmdeploy does: any batch."""
        pytest.importorskip('onnx')
        onnxruntime = pytest.importorskip('onnxruntime')
        layer, file = self.ready(), io.BytesIO()
        torch.onnx.export(
            layer,
            (self.input(2, 9, 13),),
            file,
            dynamo=False,
            input_names=['x'],
            dynamic_axes=dict(x={0: 'batch'}),
        )
        session = onnxruntime.InferenceSession(file.getvalue())
        for batch in (2, 1, 3):
            x = self.input(batch, 9, 13, seed=4)
            (got,) = session.run(None, dict(x=x.numpy()))
            torch.testing.assert_close(
                torch.from_numpy(got), layer(x), rtol=1e-4, atol=1e-4
            )

    def test_transforms_of_torch_func(self):
        """Gradients of each sample, vmap and jvp, against loops."""
        layer = self.make_random().double().eval()
        x = self.input(2, 9, 4, dtype=torch.float64)
        torch.testing.assert_close(
            vmap(layer)(x.unsqueeze(1)).squeeze(1), layer(x)
        )
        params = {name: p.detach() for name, p in layer.named_parameters()}
        weight = self.input(1, 9, 4, seed=3)

        def loss(params, image):
            out = functional_call(layer, params, (image[None],))
            return (out * weight).sum()

        got = vmap(grad(loss), (None, 0))(params, x)
        for i, image in enumerate(x):
            wants = torch.autograd.grad(
                loss(dict(layer.named_parameters()), image),
                list(layer.parameters()),
            )
            for name, want in zip(got, wants, strict=True):
                torch.testing.assert_close(got[name][i], want)
        step = self.input(2, 9, 4, seed=5, dtype=torch.float64)
        out, tangent = jvp(layer, (x,), (step,))
        torch.testing.assert_close(out, layer(x))
        far, near = (layer(x + s * 1e-6 * step) for s in (1, -1))
        torch.testing.assert_close(
            tangent, (far - near) / 2e-6, rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize('train', [False, True])
    def test_runs_on_the_meta_device(self, train):
        layer = self.make(norm_layer=nn.BatchNorm2d).train(train).to('meta')
        x = self.input().to('meta').requires_grad_()
        y = layer(x)
        assert y.is_meta and y.shape == x.shape
        y.sum().backward()
        assert x.grad.shape == x.shape

    def test_without_a_valid_token_gradients_are_zero(self):
        """And not missing, or DDP would wait for them."""
        layer = self.make_random(norm_layer=nn.BatchNorm2d)
        x = self.input().requires_grad_()
        y = layer(x, torch.zeros(2, 5, 7, dtype=torch.bool))
        assert torch.equal(y, x)
        y.sum().backward()
        assert all(p.grad.eq(0).all() for p in layer.parameters())
