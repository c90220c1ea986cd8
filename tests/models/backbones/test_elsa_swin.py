import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmea.layers import ELSA2d
from mmea.registry import MODELS

SMALL = dict(
    embed_dims=8,
    depths=(2, 1, 1, 2),
    num_heads=(1, 2, 4, 8),
    group_width=2,
    kernel_size=3,
    drop_path_rate=0.0,
    out_indices=(0, 1, 2, 3),
)
# Published, in millions, as reported.
PARAMETERS = {'tiny': 29, 'small': 53, 'base': 93}


@pytest.fixture(params=['mmseg', 'mmdet', 'mmpretrain'])
def scope(request):
    pytest.importorskip(f'{request.param}.models')
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def build(scope, train=False, **kwargs):
    torch.manual_seed(0)
    cfg = dict(SMALL, **kwargs)
    if scope == 'mmpretrain':
        cfg['pad_small_map'] = True
    model = MODELS.build(dict(type='mmea.ELSASwin', **cfg))
    model.train(train)  # returns None in mmseg and mmdet
    return model


def image(batch=1, height=45, width=67):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator)


def randomise(model):
    for param in model.parameters():
        nn.init.normal_(param, std=0.3)


def test_a_block_is_the_formula(scope):
    """A shifted one of stage 1, with the layer beside it."""
    model = build(scope).double()
    randomise(model)
    block = model.stages[0].blocks[1]
    layer = ELSA2d(
        8, kernel_size=3, num_heads=1, group_width=2, residual=False
    ).double()
    layer.load_state_dict(block.attn.elsa.state_dict())
    x = torch.randn(2, 5 * 7, 8, dtype=torch.float64)
    tokens = block.norm1(x).reshape(2, 5, 7, 8).permute(0, 3, 1, 2)
    y = x + layer(tokens).permute(0, 2, 3, 1).reshape(2, 35, 8)
    linear, last = block.ffn.layers[0][0], block.ffn.layers[1]
    want = y + last(nn.functional.gelu(linear(block.norm2(y))))
    torch.testing.assert_close(block(x, (5, 7)), want)


def test_all_but_the_attention_of_three_stages_is_the_base(scope):
    model = build(scope)
    cfg = {k: SMALL[k] for k in ('embed_dims', 'depths', 'num_heads')}
    if scope == 'mmpretrain':
        cfg = dict(arch=cfg)
    plain = MODELS.build(dict(type='SwinTransformer', **cfg))
    assert isinstance(model, type(plain))
    keys, own = plain.state_dict().keys(), model.state_dict().keys()
    gone, new = keys - own, own - keys
    for i in range(3):
        for j in range(SMALL['depths'][i]):
            prefix = f'stages.{i}.blocks.{j}.attn.'
            gone -= {k for k in gone if k.startswith(prefix + 'w_msa.')}
            new -= {k for k in new if k.startswith(prefix + 'elsa.')}
            elsa = model.stages[i].blocks[j].attn.elsa
            assert elsa.num_heads == SMALL['num_heads'][i]
            assert (elsa.lam, elsa.gamma, elsa.qk_scale) == (0, 1, 1)
            assert elsa.qkv_proj.bias is not None
    # mmpretrain has no norm for maps that it does not return.
    assert not gone and all(k.startswith('norm') for k in new)


def test_stage_four_is_the_windows_of_the_base(scope):
    model = build(scope).double()
    randomise(model)
    cfg = {k: SMALL[k] for k in ('embed_dims', 'depths', 'num_heads')}
    if scope == 'mmpretrain':
        cfg = dict(arch=cfg, pad_small_map=True)
    plain = MODELS.build(dict(type='SwinTransformer', **cfg)).double()
    plain.stages[3].load_state_dict(model.stages[3].state_dict())
    plain.train(False)
    x = torch.randn(1, 6, 64, dtype=torch.float64)
    got, want = model.stages[3](x, (2, 3)), plain.stages[3](x, (2, 3))
    assert torch.equal(got[0], want[0])


def test_learns(scope):
    """Odd sizes, one image, every parameter."""
    model = build(scope, train=True)
    model.init_weights()
    randomise(model)
    outs = model(image())
    for i, out in enumerate(outs):
        assert out.shape[:2] == (1, 8 * 2**i)
    assert len(outs) == 4
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for key, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), key


def test_stochastic_depth_is_kept(scope):
    model = build(scope, drop_path_rate=0.5)
    rates = [
        block.attn.drop.drop_prob
        for stage in model.stages
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0.1 * i for i in range(6)])


def test_frozen_stages(scope):
    model = build(scope, train=True, frozen_stages=2)
    # mmpretrain counts the stages from 0.
    last = 2 if scope == 'mmpretrain' else 1
    for i, stage in enumerate(model.stages):
        assert all(p.requires_grad == (i > last) for p in stage.parameters())


def test_with_cp_changes_nothing(scope):
    grads = []
    for with_cp in (False, True):
        model = build(scope, train=True, with_cp=with_cp).double()
        randomise(model)
        sum((out**2).mean() for out in model(image().double())).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_initialisation(scope):
    model = build(scope, embed_dims=96, num_heads=(3, 6, 12, 24))
    for _ in range(2):
        elsa = model.stages[1].blocks[0].attn.elsa
        assert elsa.out_proj.weight.std().item() == pytest.approx(
            0.02, rel=0.05
        )
        assert elsa.out_proj.bias.eq(0).all()
        # PyTorch's default.
        assert elsa.qkv_proj.weight.abs().max().item() == pytest.approx(
            192**-0.5, rel=1e-3
        )
        model.init_weights()


@pytest.mark.parametrize('arch', PARAMETERS)
def test_published_parameter_counts(scope, arch, monkeypatch):
    # The rates of stochastic depth, which are no parameters, are read.
    monkeypatch.setattr(torch.Tensor, 'item', lambda self: 0.0)
    with torch.device('meta'):
        model = MODELS.build(
            dict(type='mmea.ELSASwin', arch=arch, out_indices=(3,))
        )
    width = {'tiny': 768, 'small': 768, 'base': 1024}[arch]
    count = sum(p.numel() for p in model.parameters())
    count += width * 1000 + 1000  # the classifier
    assert count / 1e6 == pytest.approx(PARAMETERS[arch], rel=0.02)


def test_errors(scope):
    with pytest.raises(ValueError, match="one of tiny.*got arch='large'"):
        build(scope, arch='large')
    with pytest.raises(ValueError, match="base='Swan' is no registered"):
        build(scope, base='Swan')
    with pytest.raises(ValueError, match='num_heads must divide in_channels'):
        build(scope, num_heads=(3, 2, 4, 8))
