import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import nn

from mmea.models import LocalAttentionResNet
from mmea.models.padding_mask import note_sizes
from mmea.registry import MODELS
from tests.layers.test_stand_alone_attention2d import naive as naive_attention
from tests.layers.test_stand_alone_stem2d import naive as naive_stem

SMALL = dict(base_channels=4, stem_channels=4, init_cfg=None)
SYSTEMS = {
    'StandAloneAttention2d': dict(kernel_size=3, num_heads=2),
    'HaloAttention2d': dict(block_size=4, halo_size=1),
    'ELSA2d': dict(kernel_size=3, group_width=2),
}
# Published, in millions, as reported.
PARAMETERS = {26: 10.3, 38: 14.1, 50: 18.0}


@pytest.fixture(params=['mmseg', 'mmdet', 'mmpretrain'])
def scope(request):
    pytest.importorskip(f'{request.param}.models')
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def attention(name='StandAloneAttention2d'):
    return dict(type=f'mmea.{name}', **SYSTEMS[name])


def build(train=False, **kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='mmea.LocalAttentionResNet',
        depth=26,
        attention=attention(),
        out_indices=(0, 1, 2, 3),
        **SMALL,
    )
    model = MODELS.build(dict(cfg, **kwargs))
    model.train(train)  # returns None in mmseg
    return model


def image(batch=1, height=45, width=67):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator)


def randomise(model):
    """Statistics and zero norms too, which would hide errors."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.3)
            if name.endswith('running_var'):
                tensor.abs_().add_(0.5)


def test_convolution_stages_are_those_of_the_base(scope):
    model = build(depth=50, from_stage='C4')
    plain = MODELS.build(
        dict(type='ResNet', depth=50, out_indices=(0, 1, 2, 3), **SMALL)
    )
    assert isinstance(model, type(plain))
    state = plain.state_dict()
    missing, unexpected = model.load_state_dict(state, strict=False)
    late = ('layer3.', 'layer4.')
    assert all(key.startswith(late) for key in [*missing, *unexpected])
    assert {key.split('.')[2] for key in [*missing, *unexpected]} == {'conv2'}
    assert len(unexpected) == 6 + 3
    plain.eval()
    got, want = model(image()), plain(image())
    for i in range(4):
        assert got[i].shape == want[i].shape
        assert torch.equal(got[i], want[i]) == (i < 2)


def test_a_block_is_the_formula(scope):
    """Stage C3, which halves the map, operation by operation."""
    model = build(depth=38, from_stage='C3').double()
    randomise(model)
    outs = []
    handle = model.layer2[0].register_forward_hook(
        lambda module, args, out: outs.append((args[0], out))
    )
    model(image(1, 19, 27).double())
    handle.remove()
    x, got = outs[0]
    block = model.layer2[0]
    assert x.shape[2:] == (5, 7) and got.shape[2:] == (3, 4)
    y = block.norm1(F.conv2d(x, block.conv1.weight)).relu()
    y = naive_attention(block.conv2, y)
    y = F.avg_pool2d(y, 2, ceil_mode=True)
    y = F.conv2d(block.norm2(y).relu(), block.conv3.weight)
    shortcut, norm = block.downsample
    want = block.norm3(y) + norm(F.conv2d(x, shortcut.weight, stride=2))
    torch.testing.assert_close(got, want.relu())


def test_attention_stem_is_the_formula(scope):
    model = build(attention_stem=True).double()
    randomise(model)
    outs = []
    model.layer1.register_forward_pre_hook(
        lambda module, args: outs.append(args[0])
    )
    x = image(1, 5, 9).double()
    model(x)
    want = model.norm1(naive_stem(model.conv1, x))
    want = F.max_pool2d(want, 4, ceil_mode=True)
    assert outs[0].shape == (1, 4, 2, 3)
    torch.testing.assert_close(outs[0], want)


@pytest.mark.parametrize('name', SYSTEMS)
@pytest.mark.parametrize('stem', [False, True])
def test_any_local_member_learns(scope, name, stem):
    """Odd sizes, one image, every parameter, the shapes of a ResNet."""
    model = build(
        train=True,
        attention=attention(name),
        from_stage='C2',
        attention_stem=stem,
        norm_cfg=dict(type='BN'),
        norm_eval=False,
        base_channels=8,
    )
    model.init_weights()
    randomise(model)
    outs = model(image())
    sizes = [(12, 17), (6, 9), (3, 5), (2, 3)]
    for i, (out, size) in enumerate(zip(outs, sizes, strict=True)):
        assert out.shape == (1, 32 * 2**i, *size)
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for key, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), key
        assert param.grad.abs().max() > 0, key


def test_basic_blocks(scope):
    """Both of their convolutions, one of which changes the width."""
    model = build(depth=18, from_stage='C4')
    kinds = [
        type(conv).__name__
        for block in model.layer3
        for conv in (block.conv1, block.conv2)
    ]
    assert kinds == 4 * ['StandAloneAttention2d']
    assert (model.layer3[0].conv1.stride, model.layer3[1].conv1.stride) == (
        2,
        1,
    )
    assert [out.shape[1:] for out in model(image())][2:] == [
        (16, 3, 5),
        (32, 2, 3),
    ]


@pytest.mark.parametrize('base', ['ResNetV1c', 'ResNetV1d', 'ResNeXt'])
def test_other_bases(scope, base, monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'item', lambda self: 0.0)
    with torch.device('meta'):
        if not MODELS.get(f'{scope}.{base}'):
            pytest.skip(f'{scope} has no {base}')
        model = MODELS.build(dict(type='mmea.LocalAttentionResNet', base=base))
        model.train(False)
        outs = model(torch.randn(1, 3, 64, 96))
    assert isinstance(model, MODELS.get(f'{scope}.{base}'))
    assert outs[-1].shape == (1, 2048, 2, 3)
    kinds = [
        {type(block.conv2).__name__ for block in getattr(model, name)}
        for name in model.res_layers
    ]
    assert kinds == 2 * [{'Conv2d'}] + 2 * [{'StandAloneAttention2d'}]


def test_stride_is_that_of_the_attention_or_pooled(scope):
    halo = build(attention=attention('HaloAttention2d'), from_stage='C5')
    assert halo.layer4[0].conv2.stride == 2
    elsa = build(attention=attention('ELSA2d'), base_channels=8)
    layer, pool = elsa.layer3[0].conv2
    x = torch.randn(1, 32, 5, 7)
    torch.testing.assert_close(
        elsa.layer3[0].conv2(x),
        F.avg_pool2d(layer(x), 2, ceil_mode=True),
    )


def test_initialisation_is_that_of_the_layers(scope):
    """Not Kaiming, which the ResNet gives to its convolutions."""
    model = build(
        attention=attention('ELSA2d'), init_cfg=None, base_channels=64
    )
    torch.manual_seed(1)
    model.init_weights()
    for block in (model.layer3[0].conv2[0], model.layer3[1].conv2):
        weight = block.qkv_proj.weight
        # PyTorch's default, uniform up to 1 / sqrt(C).
        assert weight.abs().max().item() == pytest.approx(1 / 16, rel=1e-3)


@pytest.mark.parametrize('frozen', [-1, 0, 3])
def test_frozen_stages(scope, frozen):
    model = build(
        train=True,
        frozen_stages=frozen,
        norm_eval=True,
        attention_stem=True,
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    for i in (1, 2, 3, 4):
        found = {n for n in trained if n.startswith(f'layer{i}.')}
        assert bool(found) == (i > frozen)
    assert any(n.startswith('conv1.') for n in trained) == (frozen < 0)
    assert not model.layer4[0].norm2.training


def test_frozen_before_train_is_called(scope):
    """The optimiser, and DDP, are made before."""
    model = MODELS.build(
        dict(
            type='mmea.LocalAttentionResNet',
            depth=26,
            attention=attention(),
            from_stage='C2',
            attention_stem=True,
            frozen_stages=1,
            **SMALL,
        )
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith(('conv1.', 'layer1.')) for n in trained)
    assert any(n.startswith('layer2.0.conv2.') for n in trained)


def test_with_cp_changes_nothing(scope):
    grads = []
    for with_cp in (False, True):
        model = build(train=True, with_cp=with_cp, norm_eval=False).double()
        randomise(model)
        torch.manual_seed(1)
        sum((out**2).mean() for out in model(image().double())).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_padding_stays_out(scope):
    """The attention reads the mask of the batch, as everywhere."""
    model = build()
    randomise(model)
    x = image(1, 64, 96)
    plain = model(x)
    note_sizes(x, [(64, 64)])
    masked = model(x)
    for i in range(4):
        assert torch.equal(plain[i], masked[i]) == (i < 2)


def test_copies(scope):
    model = build()
    assert isinstance(model, LocalAttentionResNet)
    assert type(model) is type(build(depth=50))
    again = pickle.loads(pickle.dumps(model))
    for other in (copy.deepcopy(model), again):
        assert type(other) is type(model)
        for a, b in zip(other(image()), model(image()), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('depth', PARAMETERS)
@pytest.mark.parametrize('stem', [False, True])
def test_published_parameter_counts(scope, depth, stem, monkeypatch):
    # mmpretrain reads rates of stochastic depth, which are no parameters.
    monkeypatch.setattr(torch.Tensor, 'item', lambda self: 0.0)
    with torch.device('meta'):
        model = MODELS.build(
            dict(
                type='mmea.LocalAttentionResNet',
                depth=depth,
                from_stage='C2',
                attention_stem=stem,
            )
        )
    count = sum(p.numel() for p in model.parameters())
    count += 2048 * 1000 + 1000  # the classifier
    exact = {
        (26, False): 10_342_632,
        (26, True): 10_334_472,
        (38, False): 14_190_632,
        (38, True): 14_182_472,
        (50, False): 18_038_632,
        (50, True): 18_030_472,
    }
    assert count == exact[depth, stem]
    assert count / 1e6 == pytest.approx(PARAMETERS[depth], rel=0.01)


def test_errors(scope):
    for stage in ('C6', 'layer3', 4):
        with pytest.raises(ValueError, match='from_stage must be one of C2'):
            build(from_stage=stage)
    with pytest.raises(ValueError, match='dilation=.2, 2.*dilations to 1'):
        build(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    with pytest.raises(ValueError, match='attention_stem=True.*deep_stem'):
        build(attention_stem=True, deep_stem=True)
    with pytest.raises(ValueError, match="base='ResNot' is no registered"):
        build(base='ResNot')
    with pytest.raises(TypeError, match='attention.kernel is no argument'):
        build(attention=dict(type='mmea.ELSA2d', kernel=3))
    with pytest.raises(ValueError, match='no plain 3x3 convolution'):
        build(
            base='ResNeSt',
            depth=50,
            base_channels=64,
            stem_channels=64,
            radix=2,
        )


@pytest.mark.slow
def test_pooling_compiles_with_its_gradient(scope):
    """Squares over the border: inductor divided them by all of the square."""
    cfg = dict(type='mmea.EfficientAttention2d')
    model = build(depth=26, attention=cfg, from_stage='C3')
    pooled = model.layer2[0].conv2.double()
    assert isinstance(pooled[1], nn.AvgPool2d)
    compiled = torch.compile(pooled, fullgraph=True)
    grads = []
    for f in (pooled, compiled):
        x = torch.linspace(-1, 1, 7 * 9).view(1, 1, 7, 9).double()
        x = x.repeat(1, pooled[0].in_channels, 1, 1).requires_grad_()
        f(x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)
