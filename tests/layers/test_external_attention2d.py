import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from mmea.layers import ExternalAttention2d
from mmea.maps import attention_maps
from mmea.ops.external_attention_kernels import block

from .layer_tester import LayerTester


class TestPlainForm(LayerTester):
    layer = ExternalAttention2d
    kwargs = dict(in_channels=6, num_slots=5, form='plain')

    def test_equals_the_formula(self):
        layer = self.make_random(channels=4, eps=1e-2).double()
        x = self.input(dtype=torch.float64).requires_grad_()
        f = torch.einsum('oc,bchw->bohw', layer.in_proj.weight[..., 0, 0], x)
        f = (f + layer.in_proj.bias[:, None, None]).flatten(2)
        logits = torch.einsum('sc,bcn->bsn', layer.key_memory, f)
        if layer.over_tokens:
            p = logits.softmax(2)
            a = p / (1e-2 + p.sum(1, keepdim=True))
        else:
            a = logits.softmax(1)
        o = torch.einsum('sc,bsn->bcn', layer.value_memory, a)
        o = torch.einsum('oc,bcn->bon', layer.out_proj.weight[..., 0, 0], o)
        want = x + (o + layer.out_proj.bias[:, None]).view_as(x)
        got = layer(x)
        torch.testing.assert_close(got, want)
        weight = self.input(dtype=torch.float64, seed=3)
        params = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad((got * weight).sum(), params),
            torch.autograd.grad((want * weight).sum(), params),
        ):
            torch.testing.assert_close(g, w)

    def test_gradients_by_finite_differences(self):
        layer = self.make_random(norm_layer=nn.BatchNorm2d).double()
        torch.autograd.gradcheck(
            layer, self.input(2, 2, 3, dtype=torch.float64).requires_grad_()
        )

    def test_published_initialisation(self):
        torch.manual_seed(0)
        layer = ExternalAttention2d(
            512, norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU, zero_init=False
        )
        std = (2 / 512) ** 0.5
        for weight in (
            layer.key_memory,
            layer.in_proj.weight,
            layer.out_proj.weight,
        ):
            assert abs(weight.mean()) < 0.02 * std
            assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.key_memory.shape == (64, 512)
        assert torch.equal(layer.key_memory, layer.value_memory)
        assert layer.key_memory.data_ptr() != layer.value_memory.data_ptr()
        assert layer.in_proj.bias.abs().max() <= 512**-0.5
        assert layer.in_proj.bias.std() > 0.4 * 512**-0.5
        assert layer.out_proj.bias is None
        assert layer.norm.weight.eq(1).all() and layer.norm.bias.eq(0).all()
        # 0.591 M, as counted from the published block.
        assert sum(p.numel() for p in layer.parameters()) == 591_360

    def test_init_weights_draws_the_same_distribution(self):
        layer = self.make(zero_init=False)
        nn.init.constant_(layer.in_proj.weight, 7)
        layer.init_weights()
        assert layer.in_proj.weight.abs().max() < 5
        assert torch.equal(layer.key_memory, layer.value_memory)

    def test_tokens_are_a_set(self):
        """Permuting the pixels permutes the output."""
        layer, x = self.make_random(), self.input(1, 1, 12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])

    def test_bias_of_in_proj_has_an_effect_in_the_control_only(self):
        layer = self.make_random().double()
        x = self.input(dtype=torch.float64)
        want = layer(x)
        nn.init.normal_(layer.in_proj.bias)
        got = layer(x)
        (got * self.input(dtype=torch.float64, seed=3)).sum().backward()
        grad = layer.in_proj.bias.grad
        if layer.over_tokens:
            torch.testing.assert_close(got, want)
            torch.testing.assert_close(grad, torch.zeros_like(grad))
        else:
            assert (got - want).abs().max() > 0.1
            assert grad.abs().min() > 1e-3

    def test_each_token_of_the_control_by_itself(self):
        layer, x = self.make_random(), self.input(1)
        want = layer(x)[..., 0]
        x[..., 1:] *= 3
        change = (layer(x)[..., 0] - want).abs().max()
        assert change > 1e-2 if layer.over_tokens else change < 1e-6

    @pytest.mark.parametrize('name', ['num_slots', 'channels'])
    @pytest.mark.parametrize('value', [0, -3, True, 1.5])
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f'{name}.*{value}'):
            self.make(**{name: value})
        with pytest.raises(ValueError, match='eps'):
            self.make(eps=-1e-9)

    def test_misspelt_argument(self):
        with pytest.raises(TypeError, match='num_slot'):
            ExternalAttention2d(8, num_slot=4)


class TestLowRankForm(TestPlainForm):
    kwargs = dict(in_channels=6, num_slots=5, form='low_rank')

    @pytest.mark.parametrize('train', [False, True])
    def test_compiles_with_a_mask(self, train):
        """No data-dependent shape, unlike the plain form's batch norm."""
        layer = (
            self.make_random(norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU)
            .double()
            .train(train)
        )
        mask = torch.ones(2, 5, 7, dtype=torch.bool)
        mask[0, 3:] = False
        torch._dynamo.reset()
        other = copy.deepcopy(layer)
        compiled = torch.compile(other, fullgraph=True, backend='aot_eager')
        x = self.input(dtype=torch.float64)
        torch.testing.assert_close(compiled(x, mask), layer(x, mask))
        for got, want in zip(other.buffers(), layer.buffers()):
            torch.testing.assert_close(got, want)

    def test_compiles_with_checkpointing(self):
        layer = self.make_random(norm_layer=nn.BatchNorm2d, with_cp=True)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, backend='aot_eager')
        x = self.input()
        torch.testing.assert_close(compiled(x), layer(x))


class TestLowRankControl(TestLowRankForm):
    kwargs = dict(TestLowRankForm.kwargs, over_tokens=False)


class TestDeployed:
    """What an exported layer is, as it is for the others."""

    kwargs = TestLowRankForm.kwargs
    layer, least = ExternalAttention2d, LayerTester.least
    exports = LayerTester.exports
    input, make = LayerTester.input, LayerTester.make
    make_random = LayerTester.make_random
    check_sizes = LayerTester.check_sizes
    test_exports_at_any_size = LayerTester.test_exports_at_any_size
    test_is_traced_for_any_size = LayerTester.test_is_traced_for_any_size
    test_onnx = LayerTester.test_onnx_by_the_older_exporter

    def ready(self):
        layer = LayerTester.ready(self)
        layer.switch_to_deploy()
        return layer

    def test_takes_what_it_took(self):
        layer = self.ready()
        x = self.input()
        for wrong in (x.long(), x.double()):
            with pytest.raises(TypeError, match='x must be .*got torch'):
                layer(wrong)
        with pytest.raises(ValueError, match='C = in_channels = 6'):
            layer(x[:, :4])
        half = self.make_random().half()
        half.switch_to_deploy()
        assert half(x.half()).dtype == torch.float16
        assert layer.to('meta')(x.to('meta')).is_meta

    def test_has_nothing_to_initialise(self):
        layer = self.ready()
        for call in (layer.init_weights, layer.reset_parameters):
            with pytest.raises(RuntimeError, match='no weights left'):
                call()
        assert not layer.deployed_bias.requires_grad
        assert not isinstance(layer.deployed_bias, nn.Parameter)


def make(norm=None, size=6, **kwargs):
    torch.manual_seed(0)
    layer = ExternalAttention2d(
        size, norm_layer=norm, **{'num_slots': 5, **kwargs}
    ).double()
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    return layer


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


class RevertedSyncBN(nn.modules.batchnorm._BatchNorm):
    """As mmengine makes of a SyncBatchNorm on a CPU."""

    def _check_input_dim(self, input):
        return


class OwnForward(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


NORMS = dict(
    none=None,
    bn=nn.BatchNorm2d,
    bn_bare=partial(nn.BatchNorm2d, affine=False),
    bn_mean_of_all=partial(nn.BatchNorm2d, momentum=None),
    bn_no_statistics=partial(nn.BatchNorm2d, track_running_stats=False),
    bn_eps=partial(nn.BatchNorm2d, eps=0.3, momentum=0.7),
    sync_bn=nn.SyncBatchNorm,
    reverted=RevertedSyncBN,
    own_forward=OwnForward,
    gn=partial(nn.GroupNorm, 2),
    instance=partial(nn.InstanceNorm2d, affine=True),
)
ACTS = dict(
    none=None,
    relu=nn.ReLU,
    inplace=partial(nn.ReLU, inplace=True),
    gelu=nn.GELU,
)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('mode', ['train', 'eval', 'frozen'])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize(
    'options',
    [
        dict(act='relu'),
        dict(act='inplace', with_cp=True),
        dict(act='gelu', residual=False),
        dict(act='none', channels=9, eps=0),
        dict(act='inplace', channels=9, over_tokens=False, with_cp=True),
    ],
    ids=str,
)
def test_forms_are_equal(norm, mode, masked, options):
    """Output, gradients and buffers, over two steps, in float64."""
    options = dict(options)
    act = ACTS[options.pop('act')]
    forms = {
        form: make(NORMS[norm], form=form, act_layer=act, **options)
        for form in ('plain', 'low_rank')
    }
    mask = None
    if masked:
        mask = torch.zeros(3, 4, 5, dtype=torch.bool)
        mask[0, :3] = mask[1, :, :2] = True
    results = {}
    for form, layer in forms.items():
        if layer.norm is not None and layer.norm._buffers:
            if layer.norm.running_mean is not None:
                layer.norm.running_mean.copy_(randn(6, seed=4))
                layer.norm.running_var.copy_(randn(6, seed=5).exp())
        layer.train(mode != 'eval')
        if mode == 'frozen' and layer.norm is not None:
            layer.norm.eval()
        results[form] = []
        for step in range(2):
            x = randn(3, 6, 4, 5, seed=step).requires_grad_()
            y = layer(x, mask)
            layer.zero_grad()
            (y * randn(3, 6, 4, 5, seed=9)).sum().backward()
            results[form] += [y.detach(), x.grad]
            results[form] += [p.grad.clone() for p in layer.parameters()]
        results[form] += list(layer.buffers())
    assert forms['low_rank'].choose_form(x)[0] == 'low_rank'
    assert len(results['plain']) == len(results['low_rank'])
    # Of the whole list of gradients, as those of in_proj.bias are zero.
    for want, got in zip(results['plain'], results['low_rank']):
        assert got.dtype == want.dtype
        assert (got - want).abs().max() < 1e-10 * max(1, want.abs().max())


def test_a_batch_without_a_valid_token_leaves_the_statistics():
    for form in ('plain', 'low_rank'):
        layer = make(nn.BatchNorm2d, form=form)
        before = copy.deepcopy(layer.norm)
        x = randn(2, 6, 3, 4)
        y = layer(x, torch.zeros(2, 3, 4, dtype=torch.bool))
        assert torch.equal(y, x)
        for got, want in zip(layer.norm.buffers(), before.buffers()):
            assert torch.equal(got, want)


@pytest.mark.parametrize('form', ['plain', 'low_rank'])
def test_batch_norm_of_one_token_is_an_error(form):
    with pytest.raises(ValueError, match='more than '):
        make(nn.BatchNorm2d, form=form)(randn(1, 6, 1, 1))


class TestChooseForm:
    x = randn(2, 6, 5, 7)

    def check(self, layer, form, reason, x=None):
        name, why = layer.choose_form(self.x if x is None else x)
        assert name == form and reason in why, (name, why)

    def test_by_default_the_cheaper_one(self):
        self.check(make(), 'low_rank', '4560 multiplications')
        assert '9240' in make().choose_form(self.x)[1]
        # Few tokens do not pay for the folding.
        self.check(make(), 'plain', '660', randn(1, 6, 1, 5))
        # Nor does a narrow inside with many slots.
        self.check(make(channels=1, num_slots=64), 'plain', 'multiplications')

    def test_argument(self):
        self.check(make(form='plain'), 'plain', 'asked')
        self.check(make(form='low_rank'), 'low_rank', 'asked', self.x[:1])

    def test_environment(self, monkeypatch):
        monkeypatch.setenv('MMEA_EA_FORM', 'plain')
        self.check(make(), 'plain', 'asked')
        self.check(make(form='auto'), 'low_rank', 'multiplications')
        monkeypatch.setenv('MMEA_EA_FORM', 'fast')
        with pytest.raises(ValueError, match="MMEA_EA_FORM.*'fast'"):
            make()

    def test_unknown(self):
        with pytest.raises(ValueError, match="form must be one of.*'quick'"):
            make(form='quick')

    def spoil(self, layer, how):
        if how == 'hook':
            layer.in_proj.register_forward_hook(lambda *args: None)
        elif how == 'pre-hook':
            layer.out_proj.register_forward_pre_hook(lambda *args: None)
        elif how == 'backward hook':
            layer.out_proj.register_full_backward_hook(lambda *args: None)
        elif how == 'forward of its own':
            layer.in_proj.forward = layer.in_proj.forward
        elif how == 'wrapper':
            layer.out_proj = nn.Sequential(layer.out_proj, nn.Identity())
        elif how == 'parametrisation':
            nn.utils.parametrizations.spectral_norm(layer.in_proj)
        elif how == 'kernel':
            layer.in_proj = nn.Conv2d(6, 6, 3, padding=1).double()
        elif how == 'stride':
            layer.in_proj = nn.Conv2d(6, 6, 1, stride=2).double()

    @pytest.mark.parametrize(
        ('how', 'reason'),
        [
            ('hook', 'in_proj has hooks'),
            ('pre-hook', 'out_proj has hooks'),
            ('backward hook', 'out_proj has hooks'),
            ('forward of its own', 'in_proj has hooks'),
            ('wrapper', 'out_proj is a Sequential'),
            ('parametrisation', 'in_proj is a ParametrizedConv2d'),
            ('kernel', 'in_proj is no 1x1 convolution'),
            ('stride', 'in_proj is no 1x1 convolution'),
        ],
    )
    def test_changed_insides_take_the_plain_form(self, how, reason):
        layer = make()
        self.spoil(layer, how)
        self.check(layer, 'plain', reason)
        if how != 'stride':
            layer(self.x)
        forced = make(form='low_rank')
        self.spoil(forced, how)
        with pytest.raises(ValueError, match=f"'low_rank'.*{reason}"):
            forced(self.x)

    def test_subclass(self):
        class Other(ExternalAttention2d):
            def attend(self, x, mask=None):
                return 2 * super().attend(x, mask)

        layer = Other(6).double()
        self.check(layer, 'plain', 'Other has an attend() of its own')
        layer = make()
        layer.attend = layer.attend
        self.check(layer, 'plain', 'has an attend() of its own')

    @pytest.mark.parametrize('part', ['in_proj', 'out_proj', 'norm', 'act'])
    def test_hooks_run(self, part):
        layer = make(nn.BatchNorm2d, act_layer=nn.ReLU)
        want = copy.deepcopy(layer)(self.x)
        seen = []
        getattr(layer, part).register_forward_hook(
            lambda module, args, out: seen.append(out)
        )
        torch.testing.assert_close(layer(self.x), want)
        assert len(seen) == 1


class TestNothingIsStale:
    """In eval mode too, the output follows every change of a weight."""

    def check(self, layer, x):
        plain = copy.deepcopy(layer)
        plain.form = 'plain'
        with torch.no_grad():
            got, want = layer(x), plain(x)
        torch.testing.assert_close(got, want)
        return got

    @pytest.mark.parametrize('inference', [False, True])
    @pytest.mark.parametrize(
        'change',
        ['step', 'load', 'to', 'in place', 'data', 'buffer', 'assign'],
    )
    def test_change(self, change, inference):
        layer = make(nn.BatchNorm2d, form='low_rank').eval()
        x = randn(2, 6, 4, 5)
        with torch.inference_mode(inference), torch.no_grad():
            layer(x)
        before = self.check(layer, x)
        if change == 'step':
            layer(x).square().sum().backward()
            torch.optim.SGD(layer.parameters(), 0.1).step()
        elif change == 'load':
            other = make(nn.BatchNorm2d)
            nn.init.normal_(other.key_memory)
            layer.load_state_dict(other.state_dict())
        elif change == 'assign':
            other = make(nn.BatchNorm2d)
            nn.init.normal_(other.value_memory)
            layer.load_state_dict(other.state_dict(), assign=True)
        elif change == 'to':
            layer, x = layer.float(), x.float()
            assert self.check(layer, x).dtype == torch.float32
            return
        elif change == 'in place':
            with torch.no_grad():
                layer.in_proj.weight[0].mul_(3)
        elif change == 'data':
            layer.out_proj.weight.data.mul_(3)
        else:
            layer.norm.running_var.mul_(3)
        assert (self.check(layer, x) - before).abs().max() > 1e-3


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('channels', [None, 4])
@pytest.mark.parametrize('over_tokens', [True, False])
class TestDeploy:
    def test_equals(self, norm, residual, channels, over_tokens):
        layer = make(
            NORMS[norm],
            residual=residual,
            channels=channels,
            over_tokens=over_tokens,
            act_layer=nn.ReLU,
        )
        x = randn(2, 6, 5, 7).requires_grad_()
        layer(x)  # moves the running statistics
        mask = torch.ones(2, 5, 7, dtype=torch.bool)
        mask[0, 2:] = False
        deployed = copy.deepcopy(layer)
        deployed.switch_to_deploy()
        deployed.switch_to_deploy()
        assert not deployed.training and layer.eval()
        for m in (None, mask):
            outs = [module(x, m) for module in (deployed, layer)]
            torch.testing.assert_close(*outs)
            weight = randn(2, 6, 5, 7, seed=9)
            grads = [
                torch.autograd.grad((out * weight).sum(), x)[0] for out in outs
            ]
            torch.testing.assert_close(*grads)
        names = set(deployed.state_dict())
        assert not {'in_proj.weight', 'key_memory'} & names
        assert ('deployed_key_bias' in names) is not over_tokens
        assert 'deployed' in repr(deployed)
        assert ('over_tokens=False' in repr(deployed)) is not over_tokens
        with pytest.raises(RuntimeError, match='inference'):
            deployed.train()(x)


def test_the_control_has_the_same_parameters():
    external, control = (
        {name: p.shape for name, p in make(over_tokens=x).named_parameters()}
        for x in (True, False)
    )
    assert external == control
    assert 'over_tokens' not in repr(make())
    assert 'over_tokens=False' in repr(make(over_tokens=False))


@pytest.mark.parametrize('form', ['plain', 'low_rank'])
def test_the_control_without_a_bias(form):
    """As with one of zero, trained and deployed."""
    layer = make(form=form, over_tokens=False)
    nn.init.zeros_(layer.in_proj.bias)
    x = randn(2, 6, 5, 7)
    want = layer(x)
    layer.in_proj.bias = None
    torch.testing.assert_close(layer(x), want)
    layer.switch_to_deploy()
    torch.testing.assert_close(layer(x), want)


def test_a_layer_with_hooks_is_not_deployed():
    layer = make()
    layer.in_proj.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match='in_proj has hooks'):
        layer.switch_to_deploy()
    assert not layer.deployed


@pytest.mark.parametrize('norm', ['none', 'bn', 'gn'])
@pytest.mark.parametrize('deploy', [True, False])
def test_onnx(norm, deploy, tmp_path):
    """onnxruntime computes the same, at another size than exported."""
    pytest.importorskip('onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    layer = make(NORMS[norm], size=16, act_layer=nn.ReLU).float()
    layer(randn(2, 16, 5, 7).float())
    layer.eval()
    if deploy:
        layer.switch_to_deploy()
    x = randn(2, 16, 6, 9).float()
    dims = {2: torch.export.Dim('height'), 3: torch.export.Dim('width')}
    torch.onnx.export(
        layer,
        (x,),
        tmp_path / 'layer.onnx',
        dynamo=True,
        verbose=False,
        dynamic_shapes=(dims,) if deploy else None,
    )
    session = onnxruntime.InferenceSession(tmp_path / 'layer.onnx')
    name = session.get_inputs()[0].name
    for size in [(6, 9), (11, 5)] if deploy else [(6, 9)]:
        x = randn(2, 16, *size, seed=3).float()
        (got,) = session.run(None, {name: x.numpy()})
        with torch.no_grad():
            want = layer(x)
        torch.testing.assert_close(
            torch.from_numpy(got), want, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize('norm', ['none', 'bn'])
@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('scale', [1, 0.05])
@pytest.mark.parametrize('over_tokens', [True, False])
def test_autocast_beats_the_plain_form(norm, train, scale, over_tokens):
    """Error of bf16 against float64.

    At most half of the plain form's where a norm amplifies what was rounded;
    elsewhere the rounding of the output is most of it, and in the control may
    be all of it.
    """
    torch.manual_seed(0)
    layer = ExternalAttention2d(
        64,
        num_slots=16,
        norm_layer=NORMS[norm],
        residual=False,
        form='low_rank',
        over_tokens=over_tokens,
    ).train(train)
    with torch.no_grad():
        layer.key_memory.mul_(scale)
        layer.value_memory.mul_(scale)
    x = randn(1, 64, 23, 25).bfloat16()
    exact = copy.deepcopy(layer).double()(x.double())
    errors = {}
    for form in ('plain', 'low_rank'):
        other = copy.deepcopy(layer)
        other.form = form
        with torch.autocast('cpu', torch.bfloat16):
            errors[form] = (other(x) - exact).norm() / exact.norm()
    limit = errors['plain'] * (1 if over_tokens else 1.05)
    assert errors['low_rank'] < limit, errors
    assert errors['low_rank'] < 2**-8, errors
    if norm == 'bn' and train:
        assert errors['low_rank'] < 0.5 * errors['plain'], errors


@torch.no_grad()
@pytest.mark.parametrize('norm', ['none', 'bn'])
@pytest.mark.parametrize('scale', [1, 8])
@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_bf16_without_a_gradient_beats_the_plain_form(
    norm, scale, residual, dtype
):
    """Where the logits are rounded too. Error against float64, five seeds."""
    errors = dict.fromkeys(('low_rank', 'plain'), 0.0)
    for seed in range(5):
        torch.manual_seed(seed)
        layer = ExternalAttention2d(
            64,
            num_slots=16,
            norm_layer=NORMS[norm],
            residual=residual,
            zero_init=False,
            form='low_rank',
        )
        layer.key_memory.mul_(scale)
        x = randn(1, 64, 23, 25, seed=seed).bfloat16()
        layer(x.float())  # moves the running statistics
        layer.eval()
        exact = copy.deepcopy(layer).double()(x.double())
        for form in errors:
            layer.form = form
            with torch.autocast('cpu', torch.bfloat16):
                y = layer(x.to(dtype))
            errors[form] += (y - exact).norm().item()
    assert 0 < errors['low_rank'] < errors['plain'], errors


class TestInplace:
    def make(self, **kwargs):
        layer = make(**{'inplace': True, 'act_layer': nn.ReLU, **kwargs})
        other = copy.deepcopy(layer)
        other.inplace = False
        return layer.eval(), other.eval()

    @torch.no_grad()
    @pytest.mark.parametrize('norm', ['none', 'bn'])
    @pytest.mark.parametrize('deploy', [False, True])
    @pytest.mark.parametrize(
        'layout', [torch.contiguous_format, torch.channels_last]
    )
    def test_output_lies_over_the_input(self, norm, deploy, layout):
        layer, other = self.make(norm=NORMS[norm])
        if deploy:
            layer.switch_to_deploy()
        x = randn(2, 6, 5, 7).to(memory_format=layout)
        mask = randn(2, 5, 7, seed=3) > 0
        for m in (None, mask):
            given = x.clone()
            y = layer(given, m)
            torch.testing.assert_close(y, other(x, m), rtol=0, atol=1e-12)
            assert y.data_ptr() == given.data_ptr()
            assert y.stride() == given.stride() and torch.equal(y, given)

    @torch.no_grad()
    @pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
    def test_under_autocast(self, dtype):
        layer, other = self.make()
        x = randn(2, 6, 5, 7).to(dtype)
        with torch.autocast('cpu', torch.bfloat16):
            want = other.float()(x)
            y = layer.float()(x)
        assert y.data_ptr() == x.data_ptr() and torch.equal(y, want)

    def test_a_gradient_leaves_the_input_alone(self):
        """Also one of the weights alone, as in the first layer."""
        layer, other = self.make(norm=nn.BatchNorm2d)
        for mode in (True, False):
            x = randn(2, 6, 5, 7)
            outs = [m.train(mode)(x) for m in (layer, other)]
            assert torch.equal(*outs)
            assert torch.equal(x, randn(2, 6, 5, 7))
            for y in outs:
                y.square().sum().backward()
            torch.testing.assert_close(
                layer.key_memory.grad, other.key_memory.grad
            )

    def test_a_reentrant_checkpoint(self):
        """No gradient is recorded at first, and the input is read again."""
        grads = []
        for layer in self.make():
            x = randn(2, 6, 5, 7).requires_grad_()
            y = checkpoint(layer.train(), x * 1, use_reentrant=True)
            y.square().sum().backward()
            grads.append((x.grad, layer.key_memory.grad))
        torch.testing.assert_close(*grads)

    @torch.no_grad()
    def test_what_torch_lets_nobody_write_over(self):
        layer, other = self.make()
        with torch.inference_mode():
            x = randn(2, 6, 5, 7)
        for given in (x, x[:1].expand(2, -1, -1, -1), x[..., :1].expand_as(x)):
            assert torch.equal(layer(given), other(given))

    @torch.no_grad()
    def test_where_it_cannot_it_does_not(self):
        x = randn(2, 6, 5, 7)
        for options in (
            dict(form='plain'),
            dict(norm=partial(nn.GroupNorm, 2)),
        ):
            layer, other = self.make(**options)
            torch.testing.assert_close(layer(x), other(x))
            assert torch.equal(x, randn(2, 6, 5, 7))

    def test_maps_see_what_came_in(self):
        layer, other = self.make()
        x = randn(2, 6, 5, 7)
        for seen, want in zip(
            attention_maps(layer, x)[''], attention_maps(other, x)['']
        ):
            assert torch.equal(seen.attention, want.attention)
        assert layer.inplace and not other.inplace

    def test_arguments(self):
        with pytest.raises(ValueError, match='inplace=True needs residual'):
            make(inplace=True, residual=False)
        with pytest.raises(ValueError, match="inplace='no'"):
            make(inplace='no')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('over_tokens', [True, False])
def test_parameters_in_half_precision(dtype, over_tokens):
    layer = make(nn.BatchNorm2d, form='low_rank', over_tokens=over_tokens).to(
        dtype
    )
    x = randn(2, 6, 5, 7).to(dtype).requires_grad_()
    y = layer(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert all(p.grad.dtype == dtype for p in layer.parameters())
    want = copy.deepcopy(layer).double()(x.double())
    assert (y - want).abs().max() < 0.02 * want.abs().max()


@pytest.mark.parametrize('form', ['plain', 'low_rank'])
def test_memory_format_is_kept(form):
    layer = make(nn.BatchNorm2d, form=form, act_layer=nn.ReLU)
    x = randn(2, 6, 5, 7).to(memory_format=torch.channels_last)
    for mode in (True, False):
        y = layer.train(mode)(x)
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_kept_for_backward():
    """In maps, beyond the input and the output: 3.25 as published."""
    torch.manual_seed(0)
    shares = {}
    for form in ('plain', 'auto'):
        layer = ExternalAttention2d(
            128,
            num_slots=16,
            norm_layer=nn.BatchNorm2d,
            act_layer=nn.ReLU,
            form=form,
        )
        x = torch.randn(1, 128, 64, 64, requires_grad=True)
        kept = {}

        def pack(t, kept=kept):
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = layer(x)
        for own in (x, y, *layer.parameters()):
            kept.pop(own.untyped_storage().data_ptr(), None)
        shares[form] = sum(kept.values()) / x.untyped_storage().nbytes()
    assert shares['auto'] < 0.15
    assert shares['plain'] == pytest.approx(3.25, abs=0.1)


def check_kernels(norm, mode, masked):
    """Output, gradients and buffers against the plain form, in float64."""
    mask = randn(3, 5, 7, seed=21) > 0 if masked else None
    found = []
    for form, dtype in (('plain', torch.float64), ('kernel', torch.float32)):
        layer = make(norm, act_layer=nn.ReLU, form=form).to(dtype)
        layer.train(mode == 'train')
        if mode == 'deployed':
            layer.switch_to_deploy()
        x = randn(3, 6, 5, 7, seed=20).to(dtype)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        if form == 'kernel':
            assert layer.choose_form(x)[0] == 'kernel'
        y = layer(x, mask)
        (y * randn(3, 6, 5, 7, seed=22)).sum().backward()
        grads = [x.grad, *(p.grad for p in layer.parameters())]
        found.append([y.detach(), *grads, *layer.buffers()])
    want, got = found
    assert len(got) == len(want)
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    for g, w in zip(got, want):
        assert (g - w).abs().max() < 1e-4 * max(1, w.abs().max())


@pytest.mark.parametrize(
    ('norm', 'mode', 'masked'),
    [
        (None, 'train', True),
        (nn.BatchNorm2d, 'train', False),
        (nn.BatchNorm2d, 'train', True),
        (nn.BatchNorm2d, 'eval', True),
        (nn.BatchNorm2d, 'deployed', False),
        (partial(nn.GroupNorm, 2), 'train', False),
    ],
)
def test_kernels(interpreter, norm, mode, masked):
    interpreter(check_kernels, norm, mode, masked)


def check_kernels_elsewhere():
    """Graphs that are kept hold torch's own operators."""
    layer = make(nn.BatchNorm2d, form='kernel').float().eval()
    x = randn(1, 6, 5, 7, dtype=torch.float32)
    with torch.no_grad():
        program = torch.export.export(layer, (x,))
        assert 'mmea.' not in str(program.graph)
        traced = torch.jit.trace(layer, x)
        assert 'mmea::' not in str(traced.inlined_graph)
        for graph in (program.module(), traced):
            torch.testing.assert_close(graph(x), layer(x))
        compiled = torch.compile(layer, fullgraph=True, backend='eager')
        assert torch.equal(compiled(x), layer(x))
    layer.train().with_cp = True
    x.requires_grad_()
    layer(x).sum().backward()
    want, x.grad, layer.with_cp = x.grad, None, False
    layer(x).sum().backward()
    assert torch.equal(x.grad, want)


def test_kernels_in_graphs(interpreter):
    interpreter(check_kernels_elsewhere)


class TestKernelForm:
    """Where no GPU is: what is said of them."""

    x = randn(2, 6, 5, 7, dtype=torch.float32)

    def test_impossible(self):
        layer = make(form='kernel').float()
        for call in (layer, layer.choose_form):
            with pytest.raises(ValueError, match="'kernel' is imp.*on cpu, n"):
                call(self.x)
        layer.in_proj.register_forward_hook(lambda *args: None)
        with pytest.raises(ValueError, match="'kernel' is impossible.*hooks"):
            layer(self.x)

    def test_environment(self, monkeypatch):
        monkeypatch.setenv('MMEA_EA_FORM', 'kernel')
        assert make().form == 'kernel' and make(form='plain').form == 'plain'

    def test_unconfirmed(self):
        """By default none on a GPU that did not prove them."""
        with FakeTensorMode():
            x = torch.empty(2, 6, 5, 7, device='cuda')
        form, why = make().choose_form(x)
        assert form == 'low_rank' and 'no kernels: the kernels' in why
        assert make(form='kernel').choose_form(x) == (
            'kernel',
            "form='kernel' was asked for",
        )
        layer = make(form='kernel', over_tokens=False)
        with pytest.raises(ValueError, match='over_tokens=False'):
            layer.choose_form(x)
        assert 'kernels' not in make().choose_form(self.x)[1]
        assert make(form='low_rank').choose_form(x)[0] == 'low_rank'

    def test_confirmed(self, monkeypatch):
        monkeypatch.setattr(block, 'CONFIRMED', {(9, 0)})
        monkeypatch.setattr(
            torch.cuda, 'get_device_capability', lambda device: (9, 0)
        )
        with FakeTensorMode():
            x = torch.empty(2, 6, 5, 7, device='cuda')
        form, why = make().choose_form(x)
        assert form == 'kernel' and 'multiplications' in why
        assert make().choose_form(x[:1, :, :1, :2])[0] == 'plain'
        layer = make(nn.BatchNorm2d)
        layer.switch_to_deploy()
        assert layer.choose_form(x)[0] == 'kernel'
