import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmea.convert import convert
from mmea.layers import MultiheadExternalAttention
from mmea.models import EAMLP
from mmea.models.backbones.tokens_to_token import TokenLayer

DATA = Path(__file__).parents[2] / 'data' / 'oracle'
ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=12)


def make(**kwargs):
    torch.manual_seed(0)
    kwargs = dict(arch=ARCH, img_size=32, token_dims=4) | kwargs
    return EAMLP(**kwargs)


def randomise(net):
    """Far from the start, where attention does next to nothing."""
    for param in net.parameters():
        nn.init.normal_(param, std=0.5)
    return net


def image(height=32, width=32, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=generator)


@pytest.mark.parametrize(
    ('arch', 'millions'), [('7', 6.096), ('14', 29.801), ('19', 54.471)]
)
def test_published_numbers_of_parameters(arch, millions):
    with torch.device('meta'):
        net = EAMLP(arch)
    trained = sum(p.numel() for p in net.parameters())
    trained += net.embed_dims * 1000 + 1000  # the classifier
    assert round(trained / 1e6, 3) == millions
    # The position embedding is not trained.
    assert net.pos_embed.shape == (1, 197, net.embed_dims)


@pytest.mark.parametrize(
    'size', [(32, 32), (32, 48), (65, 97), (1, 1), (17, 16)]
)
@pytest.mark.parametrize('stem', ['tokens_to_token', 'convolutions'])
def test_any_size(size, stem):
    net = make(stem=stem).eval()
    (out,) = net(image(*size))
    assert out.shape == (2, 8, -(-size[0] // 16), -(-size[1] // 16))
    assert out.isfinite().all()


def test_convolutions_make_a_token_of_the_pixels_around_it():
    net = randomise(make(stem='convolutions').eval().tokens_to_token)
    pixels = image(64, 96).requires_grad_()
    tokens, grid = net(pixels)
    assert grid == (4, 6)
    tokens.unflatten(1, grid)[:, 2, 3].sum().backward()
    rows, columns = pixels.grad.abs().sum((0, 1)).nonzero().T
    # 3 x 3 four times: 31 pixels, the first of the token's own in the middle.
    assert (rows.min(), rows.max()) == (32 - 15, 32 + 15)
    assert (columns.min(), columns.max()) == (48 - 15, 48 + 15)
    # The border is padded to whole tokens, with zeros.
    odd = image(20, 35)
    padded = nn.functional.pad(odd, (0, 13, 0, 12))
    torch.testing.assert_close(net(odd), net(padded))


@pytest.mark.parametrize('size', [(20, 35), (31, 1)])
def test_padding_is_at_the_right_and_at_the_bottom(size):
    net = randomise(make()).eval()
    x = image(*size)
    padded = x.new_zeros(2, 3, 32, -(-size[1] // 16) * 16)
    padded[:, :, : size[0], : size[1]] = x
    torch.testing.assert_close(net(x), net(padded))


def test_a_token_is_where_its_pixels_are():
    net = make().eval()
    x = image(48, 80)
    changed = x.clone()
    changed[:, :, 36:44, 20:28] += torch.randn(8, 8)
    moved = (net(changed)[0] - net(x)[0]).norm(dim=1)  # (B, 3, 5)
    assert moved.flatten(1).argmax(1).tolist() == [2 * 5 + 1] * 2


class TestPositions:
    def test_table_of_the_grid_is_taken_as_it_is(self):
        net = make(img_size=(32, 48))
        assert net._positions((2, 3)) is net.pos_embed
        assert net.pos_embed.shape == (1, 7, 8)

    def test_sinusoid(self):
        table = make(img_size=(30, 40)).pos_embed[0].double()
        for p in range(7):
            for j in range(8):
                angle = p / 10000 ** (2 * (j // 2) / 8)
                want = np.cos(angle) if j % 2 else np.sin(angle)
                assert table[p, j].item() == pytest.approx(want, abs=1e-6)

    def test_resized_with_its_two_axes(self):
        """The class token's stays; rows stay rows, columns columns."""
        net = make(img_size=(32, 48))
        rest = torch.zeros(8, 2, 3)
        rest[0] = torch.tensor([[1.0], [2.0]])  # of the row alone
        rest[1] = torch.tensor([1.0, 2.0, 3.0])  # of the column alone
        rest[2] = 7.0
        net.pos_embed[0, 1:] = rest.flatten(1).t()
        first = net.pos_embed[:, 0].clone()
        table = net._positions((5, 4))
        assert torch.equal(table[:, 0], first)
        table = table[0, 1:].t().unflatten(1, (5, 4))
        assert (table[0][:, 0].diff() > 0.1).all()
        assert (table[1][0].diff() > 0.1).all()
        torch.testing.assert_close(table[0], table[0][:, :1].expand(5, 4))
        torch.testing.assert_close(table[1], table[1][:1].expand(5, 4))
        torch.testing.assert_close(table[2], torch.full((5, 4), 7.0))

    def test_each_token_gets_its_own(self):
        net = make(img_size=(32, 48)).eval()
        x = image(32, 48)
        (before,) = net(x)
        net.pos_embed[0, 1 + 4] += 1  # row 1, column 1
        moved = (net(x)[0] - before).norm(dim=1)
        assert moved.flatten(1).argmax(1).tolist() == [4, 4]


class TestOutputs:
    @pytest.mark.parametrize('indices', [(0, 2), [-1, 0], (-3, -1)])
    def test_named_layers_in_ascending_order(self, indices):
        net = randomise(make(out_indices=indices)).eval()
        seen = []
        for block in net.blocks:
            block.register_forward_hook(lambda *args: seen.append(args[2]))
        outs = net(image(32, 48))
        assert isinstance(outs, tuple) and len(outs) == 2
        for out, tokens in zip(outs, (seen[0], net.norm(seen[2]))):
            assert out.shape == (2, 8, 2, 3)
            torch.testing.assert_close(out.flatten(2).mT, tokens[:, 1:])

    def test_class_token(self):
        net = randomise(make(out_indices=(1, 2), out_type='cls_token'))
        maps = make(out_indices=(1, 2))
        maps.load_state_dict(net.state_dict())
        seen = []
        for layer in (net.blocks[1], net.norm):
            layer.register_forward_hook(lambda *args: seen.append(args[2]))
        outs = net.eval()(image())
        for out, tokens in zip(outs, seen, strict=True):
            assert torch.equal(out, tokens[:, 0])
        for out, tokens in zip(maps.eval()(image()), seen, strict=True):
            assert torch.equal(out.flatten(2).mT, tokens[:, 1:])

    def test_layers_after_the_last_index_are_not_run_and_frozen(self):
        net = make(out_indices=1)
        net.blocks[2].forward = net.norm.forward = None
        net(image())
        for module in (net.blocks[2], net.norm):
            assert not any(p.requires_grad for p in module.parameters())
        assert all(p.requires_grad for p in net.blocks[1].parameters())
        assert all(p.requires_grad for p in make().parameters())


@pytest.mark.parametrize('form', ['plain', 'low_rank'])
@pytest.mark.parametrize('out_type', ['featmap', 'cls_token', 'avg_featmap'])
@pytest.mark.parametrize('out_indices', [-1, (0, 1)])
def test_every_trained_parameter_gets_a_gradient(
    out_indices, out_type, form, monkeypatch
):
    monkeypatch.setenv('MMEA_EA_FORM', form)
    net = randomise(make(out_indices=out_indices, out_type=out_type)).double()
    outs = net(image(33, 18).double())
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    # A constant on a slot's logits does not pass the softmax over tokens.
    none = ('attn.in_proj.bias', 'attn.key_bias', 'blocks.0.norm1.bias')
    for name, param in net.named_parameters():
        assert (param.grad is not None) == param.requires_grad, name
        if param.requires_grad and not any(n in name for n in none):
            assert param.grad.abs().max() > 0 or 'norm1.bias' in name, name


def test_with_cp_changes_nothing():
    grads = []
    for with_cp in (False, True):
        net = randomise(make(with_cp=with_cp, drop_path_rate=0.3)).double()
        torch.manual_seed(2)  # dropout too
        (out,) = net.train()(image(batch=4).double())
        out.square().mean().backward()
        grads.append([p.grad for p in net.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_dropout_and_stochastic_depth():
    net = make(drop_rate=0.2, drop_path_rate=0.1, token_drop_rate=0.3)
    rates = [
        [part.dropout_layer.drop_prob for part in (block.attn, block.ffn)]
        for block in net.blocks
    ]
    assert rates == [[0, 0], [0.05, 0.05], [0.1, 0.1]]
    assert net.drop.p == net.blocks[1].attn.proj_drop.p == 0.2
    layer = net.tokens_to_token.layers[1]
    assert layer.attn_drop.p == layer.proj_drop.p == 0.3
    published = make().train()
    assert not torch.equal(published(image())[0], published(image())[0])
    still = make(token_drop_rate=0).train()
    assert torch.equal(still(image())[0], still.eval()(image())[0])
    single = make(arch=dict(ARCH, num_layers=1), drop_path_rate=0.1)
    assert single.blocks[0].ffn.dropout_layer.drop_prob == 0


class TestInit:
    def check(self, net):
        for name, module in net.named_modules():
            if isinstance(module, nn.Linear):
                assert 0.015 < module.weight.std() < 0.025, name
                assert not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm):
                assert (module.weight == 1).all() and not module.bias.any()
            elif isinstance(module, TokenLayer):
                assert torch.equal(module.key_memory, module.value_memory)
                assert 0.015 < module.key_memory.std() < 0.025
                assert not module.value_bias.any()
            elif isinstance(module, MultiheadExternalAttention):
                assert not torch.equal(module.key_memory, module.value_memory)
                assert 0.015 < module.value_memory.std() < 0.025
                assert not module.key_bias.any()
        assert 0 < net.cls_token.std() < 0.05

    def test_published(self):
        arch = dict(ARCH, embed_dims=32, feedforward_channels=64)
        net = make(arch=arch, token_dims=16)
        self.check(net)
        randomise(net).init_weights()
        self.check(net)

    def test_a_second_call_keeps_what_was_loaded(self, tmp_path):
        other = randomise(make())
        path = tmp_path / 'net.pth'
        prefixed = {f'backbone.{k}': v for k, v in other.state_dict().items()}
        torch.save(dict(state_dict=prefixed), path)
        net = make(
            init_cfg=dict(
                type='Pretrained', checkpoint=str(path), prefix='backbone.'
            )
        )
        for _ in range(2):
            net.init_weights()
            for name, value in net.state_dict().items():
                assert torch.equal(value, other.state_dict()[name]), name


def test_half_precision_and_batch_of_one():
    net = randomise(make()).eval()
    for param in net.parameters():
        param.data *= 0.2
    x = image(40, 24, batch=1)
    (want,) = net(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (got,) = net(x)
    assert (got - want).abs().max() < 0.05 * want.abs().max()
    (got,) = net.bfloat16()(x.bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().max() < 0.1 * want.abs().max()


def test_published_weights_in_a_classifier():
    """The recorded net, under mmpretrain's names, with its logits."""
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    with np.load(DATA / 'eamlp_net_performer.npz') as case:
        ctor = json.loads(str(case['meta']))['ctor']
        state = {
            name.removeprefix('param/'): torch.from_numpy(case[name])
            for name in case.files
            if name.startswith('param/')
        }
        x, y = (torch.from_numpy(case[k]) for k in ('input/x', 'output/y'))
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmea.EAMLP',
            arch=dict(
                embed_dims=ctor['embed_dim'],
                num_layers=ctor['depth'],
                num_heads=ctor['num_heads'],
                feedforward_channels=32,
            ),
            img_size=ctor['img_size'],
            token_dims=ctor['token_dim'],
            out_type='cls_token',
        ),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=16),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg).double().eval()
    model.load_state_dict(convert(state, 'eamlp_performer'))
    logits = model(x, mode='tensor')
    logits = model.head.fc(logits[-1]) if len(logits) == 1 else logits
    assert (logits - y).abs().max() < 1e-10 * y.abs().max()


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(arch='8'), "7, 14, 19 or a dict.*arch='8'"),
        (dict(arch=dict(embed_dims=8)), 'num_heads.*got arch='),
        (dict(arch=dict(ARCH, num_layers=0)), "must be >= 1.*'num_layers': 0"),
        (dict(img_size=(0, 32)), r'img_size=\(0, 32\)'),
        (dict(stem='conv'), "tokens_to_token, convolutions, got stem='conv'"),
        (dict(out_type='raw'), "cls_token, avg_featmap, got out_type='raw'"),
        (dict(out_indices=3), r'-3\.\.2, got out_indices=\[3\] for 3 layers'),
        (dict(out_indices=(-1, 2)), r'each once, got out_indices=\(-1, 2\)'),
        (dict(out_indices=[]), r'out_indices=\[\]'),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)
