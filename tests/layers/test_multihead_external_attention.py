import copy

import pytest
import torch
from torch import nn

from mmea.layers import MultiheadExternalAttention

FORMS = ['plain', 'low_rank']


def make(dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    kwargs = {'num_slots': 5, 'batch_first': True, **kwargs}
    layer = MultiheadExternalAttention(8, 2, **kwargs)
    for param in layer.parameters():
        nn.init.normal_(param, std=0.3)
    return layer.to(dtype)


def tokens(*size, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, 8, generator=generator, dtype=dtype)


def naive(layer, x):
    """Image by image, head by head, slot by slot."""
    width = layer.key_memory.shape[1]
    images = []
    for image in x:
        wide = image @ layer.in_proj.weight.t() + layer.in_proj.bias
        heads = []
        for part in wide.split(width, 1):
            logits = part @ layer.key_memory.t()
            if layer.key_bias is not None:
                logits = logits + layer.key_bias
            attn = logits.exp() / logits.exp().sum(0)
            attn = attn / (layer.eps + attn.sum(1, keepdim=True))
            out = attn @ layer.value_memory
            if layer.value_bias is not None:
                out = out + layer.value_bias
            heads.append(out)
        wide = torch.cat(heads, 1)
        images.append(wide @ layer.out_proj.weight.t() + layer.out_proj.bias)
    return torch.stack(images)


def gradients(layer, x, y):
    params = [x, *layer.parameters()]
    return torch.autograd.grad(
        (y * tokens(*x.shape[:2], seed=3)).sum(), params
    )


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('expansion', [1, 4])
@pytest.mark.parametrize('memory_bias', [False, True])
@pytest.mark.parametrize('size', [(2, 7), (1, 5), (1, 1)])
def test_equals_the_formula(form, expansion, memory_bias, size):
    layer = make(form=form, expansion=expansion, memory_bias=memory_bias)
    x = tokens(*size).requires_grad_()
    assert layer.choose_form(7)[0] == form
    got, want = layer(x), x + naive(layer, x)
    torch.testing.assert_close(got, want)
    for g, w in zip(gradients(layer, x, got), gradients(layer, x, want)):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize('form', FORMS)
def test_residual_position_and_layout(form):
    layer = make(form=form)
    x, pos, identity = (tokens(2, 7, seed=i) for i in range(3))
    want = identity + naive(layer, x + pos)
    for more in (
        dict(),
        dict(key=x, value=x, key_pos=pos),
        dict(reference_points=None),
    ):
        got = layer(x, identity=identity, query_pos=pos, **more)
        torch.testing.assert_close(got, want)
    layer.batch_first = False
    got = layer(
        x.transpose(0, 1),
        identity=identity.transpose(0, 1),
        query_pos=pos.transpose(0, 1),
    )
    torch.testing.assert_close(got.transpose(0, 1), want)


@pytest.mark.parametrize('form', FORMS)
def test_padding_equals_cropping(form):
    layer = make(form=form)
    x = tokens(3, 7)
    padding = torch.ones(3, 7, dtype=torch.bool)
    padding[0, :4] = padding[1, :6] = False
    x[padding] = float('nan')
    x.requires_grad_()
    y = layer(x, key_padding_mask=padding, identity=torch.zeros_like(x))
    for i, number in ((0, 4), (1, 6)):
        torch.testing.assert_close(
            y[i : i + 1, :number], naive(layer, x[i : i + 1, :number])
        )
    assert y.isfinite().all()
    y.square().sum().backward()
    assert x.grad.isfinite().all() and x.grad[padding].eq(0).all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize('form', FORMS)
def test_padding_of_nothing_equals_none(form):
    layer, x = make(form=form), tokens(2, 7)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    torch.testing.assert_close(layer(x, key_padding_mask=padding), layer(x))


@pytest.mark.parametrize('form', FORMS)
def test_bf16_autocast_is_near_float64(form):
    layer = make(torch.float32, form=form)
    exact = copy.deepcopy(layer).double()
    x = tokens(2, 30, dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = layer(x)
    want = exact(x.double())
    assert (y - want).abs().max() < 0.05 * (want - x).abs().max()
    y.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize('form', FORMS)
def test_half_precision(form):
    layer = make(torch.float16, form=form)
    y = layer(tokens(2, 30, dtype=torch.float16))
    want = copy.deepcopy(layer).double()(
        tokens(2, 30, dtype=torch.float16).double()
    )
    assert y.dtype == torch.float16
    assert (y - want).abs().max() < 0.01 * want.abs().max()


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('masked', [False, True])
def test_compiles_to_one_graph(form, masked):
    layer = make(form=form)
    torch._dynamo.reset()
    compiled = torch.compile(
        copy.deepcopy(layer), fullgraph=True, backend='aot_eager'
    )
    padding = None
    if masked:
        padding = torch.zeros(2, 7, dtype=torch.bool)
        padding[:, 5:] = True
    xs = [tokens(2, 7).requires_grad_() for _ in range(2)]
    ys = [
        f(x, key_padding_mask=padding) for f, x in zip((layer, compiled), xs)
    ]
    torch.testing.assert_close(*ys)
    for y in ys:
        y.square().sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad)


@pytest.mark.parametrize('form', FORMS)
def test_dropout(form):
    layer = make(
        form=form,
        attn_drop=0.5,
        proj_drop=0.5,
        dropout_layer=lambda: nn.Dropout(0.5),
    )
    x = tokens(2, 7)
    assert not torch.equal(layer(x), layer(x))
    torch.testing.assert_close(layer.eval()(x), x + naive(layer, x))
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(('dim', 'num_heads'), [(256, 4), (384, 6), (448, 7)])
def test_chooses_by_multiplications(dim, num_heads):
    """EAMLP's widths take the low-rank form; few tokens do not pay."""
    layer = MultiheadExternalAttention(dim, num_heads)
    assert layer.choose_form(8 * 197)[0] == 'low_rank'
    assert layer.choose_form(10)[0] == 'plain'
    form, reason = MultiheadExternalAttention(
        dim, num_heads, num_slots=dim
    ).choose_form(10**6)
    assert form == 'plain' and 'multiplications' in reason


def test_forms_that_are_impossible():
    layer = make()
    layer.in_proj.register_forward_hook(lambda *args: None)
    form, reason = layer.choose_form(10**6)
    assert form == 'plain' and 'in_proj has hooks' in reason
    layer = make()
    layer.out_proj = nn.Sequential(layer.out_proj)
    layer.form = 'low_rank'
    with pytest.raises(ValueError, match='out_proj is a Sequential'):
        layer(tokens(1, 3))


class TestDeploy:
    def make(self, **kwargs):
        """Return a layer and what is folded of it, both in eval mode."""
        layer = make(**kwargs).eval()
        deployed = copy.deepcopy(layer)
        deployed.switch_to_deploy()
        return layer, deployed

    @pytest.mark.parametrize('form', FORMS)
    @pytest.mark.parametrize('expansion', [1, 4])
    @pytest.mark.parametrize('memory_bias', [False, True])
    @pytest.mark.parametrize('batch_first', [False, True])
    def test_equals(self, form, expansion, memory_bias, batch_first):
        """With and without a mask, output and gradient, to 1e-10."""
        layer, deployed = self.make(
            form=form,
            expansion=expansion,
            memory_bias=memory_bias,
            batch_first=batch_first,
            attn_drop=0.5,
            dropout_layer=lambda: nn.Dropout(0.5),
        )
        x = tokens(*((3, 7) if batch_first else (7, 3))).requires_grad_()
        mask = torch.zeros(3, 7, dtype=torch.bool)
        mask[0, 4:] = mask[1] = True
        call = dict(identity=tokens(*x.shape[:2], seed=4))
        call['query_pos'] = tokens(*x.shape[:2], seed=5)
        for more in ({}, dict(key_padding_mask=mask)):
            outs = [m(x, **call, **more) for m in (deployed, layer)]
            grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in outs]
            with torch.no_grad():
                outs.insert(0, deployed(x, **call, **more))
            torch.testing.assert_close(outs[0], outs[1])
            for got, want in (outs[1:], grads):
                torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize('size', [(1, 1), (1, 196), (3, 37)])
    def test_equals_in_float32(self, size):
        layer, deployed = self.make(dtype=torch.float32)
        x = tokens(*size, dtype=torch.float32)
        want = copy.deepcopy(layer).double()(x.double()).float()
        with torch.inference_mode():
            torch.testing.assert_close(deployed(x), want)
            # And what is folded in every step, without a gradient.
            layer.form = 'low_rank'
            torch.testing.assert_close(layer(x), want)

    def test_is_for_inference_and_holds_no_weights(self):
        layer, deployed = self.make()
        before = deployed.state_dict()
        deployed.switch_to_deploy()
        assert before.keys() == deployed.state_dict().keys()
        assert set(before) == {
            'deployed_key',
            'deployed_value',
            'deployed_bias',
        }
        assert not [*deployed.parameters()] and not deployed.training
        assert repr(deployed).startswith(
            'MultiheadExternalAttention(\n  8, 8 heads, num_slots=5, '
            'batch_first=True, deployed\n'
        )
        assert deployed.choose_form(1)[0] == 'low_rank'
        x = tokens(2, 7)
        for call in (deployed.init_weights, deployed.reset_parameters):
            with pytest.raises(RuntimeError, match='no weights left'):
                call()
        with pytest.raises(RuntimeError, match='is for inference'):
            deployed.train()(x)

    def test_takes_what_it_took(self):
        x = tokens(2, 7)
        _, deployed = self.make()
        with pytest.raises(TypeError, match='query must be floating'):
            deployed(x.long())
        with pytest.raises(TypeError, match='query must be torch.float64, as'):
            deployed(x.float())
        layer, deployed = self.make(dtype=torch.float16)
        torch.testing.assert_close(
            deployed(x.half()), layer(x.half()), rtol=1e-2, atol=1e-2
        )
        _, deployed = self.make(dtype=torch.float32)
        with torch.autocast('cpu', torch.bfloat16):
            assert deployed(x.bfloat16()).dtype == torch.bfloat16

    def test_is_refused_where_it_is_not_exact(self):
        layer = make()
        layer.out_proj.register_forward_hook(lambda *args: None)
        with pytest.raises(ValueError, match='folded: out_proj has hooks'):
            layer.switch_to_deploy()
        layer = make()
        nn.utils.parametrize.register_parametrization(
            layer, 'value_bias', nn.Tanh()
        )
        with pytest.raises(ValueError, match='value_bias is no plain param'):
            layer.switch_to_deploy()
        assert not layer.deployed

    def test_exports_at_any_size(self):
        _, deployed = self.make(dtype=torch.float32)
        dims = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
        graph = torch.export.export(
            deployed,
            (tokens(2, 7, dtype=torch.float32),),
            dynamic_shapes=dict(query=dims),
        ).module()
        x = tokens(3, 12, dtype=torch.float32)
        torch.testing.assert_close(graph(x), deployed(x))


def test_initialisation():
    torch.manual_seed(0)
    layer = MultiheadExternalAttention(256, 4)
    assert layer.key_memory.shape == layer.value_memory.shape == (64, 64)
    assert layer.in_proj.out_features == 1024
    for name, param in layer.named_parameters():
        if name.endswith('bias'):
            assert param.eq(0).all()
        else:
            assert param.std().item() == pytest.approx(0.02, rel=0.05)
    names = make(memory_bias=False).state_dict()
    assert 'key_bias' not in names and 'value_bias' not in names


def test_tokens_are_a_set():
    layer, x = make(), tokens(1, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_other_keys_and_pairs_are_refused():
    layer, x, other = make(), tokens(2, 7), tokens(2, 9)
    for name, kwargs in dict(
        key=dict(key=other),
        value=dict(value=other),
        key_pos=dict(query_pos=x, key_pos=x.clone()),
    ).items():
        with pytest.raises(ValueError, match=f'no cross-.*a {name} that'):
            layer(x, **kwargs)
    with pytest.raises(ValueError, match='attn_mask.*key_padding_mask'):
        layer(x, attn_mask=torch.zeros(7, 7))
    for mask in (torch.zeros(2, 7), torch.zeros(7, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r'must be bool \(2, 7\)'):
            layer(x, key_padding_mask=mask)


@pytest.mark.parametrize(
    'name', ['embed_dims', 'num_heads', 'num_slots', 'expansion']
)
@pytest.mark.parametrize('value', [0, -3, True, 1.5])
def test_bad_sizes(name, value):
    kwargs = dict(embed_dims=8, num_heads=2)
    kwargs[name] = value
    with pytest.raises(ValueError, match=f'{name}.*{value}'):
        MultiheadExternalAttention(**kwargs)


def test_bad_arguments():
    with pytest.raises(ValueError, match='num_heads=3 and embed_dims=8'):
        MultiheadExternalAttention(8, 3)
    with pytest.raises(ValueError, match='attn_drop=1'):
        make(attn_drop=1)
    with pytest.raises(ValueError, match='eps=-1'):
        make(eps=-1)
    with pytest.raises(ValueError, match="form must.*'fast'"):
        make(form='fast')
    with pytest.raises(TypeError, match='qkv_bias'):
        make(qkv_bias=True)


def test_kernels_are_of_another_layer(monkeypatch):
    with pytest.raises(ValueError, match="form must be one of.*'kernel'"):
        MultiheadExternalAttention(8, num_heads=2, form='kernel')
    monkeypatch.setenv('MMEA_EA_FORM', 'kernel')
    layer = MultiheadExternalAttention(8, num_heads=2)
    assert layer.form == 'auto'
