import pytest
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmea.models import VOLO
from mmea.models.backbones.volo_settings import ARCHS

ARCH = dict(
    num_layers=(2, 1, 1, 1),
    embed_dims=(8, 12),
    num_heads=(2, 3),
    feedforward_channels=(16, 20),
    stem_channels=4,
)
# With a classifier of two parts, as published and counted.
PARAMETERS = dict(
    d1=(26_632_040, 26_672_168),
    d2=(58_678_336, 58_721_248),
    d3=(86_325_072, 86_382_288),
    d4=(192_961_520, 192_722_672),
    d5=(295_455_584, 295_097_312),
)
ELSA = dict(type='mmea.ELSA2d', group_width=2)
OTHERS = {
    'elsa': ELSA,
    'external': dict(type='mmea.ExternalAttention2d', num_slots=5),
    'halo': dict(type='mmea.HaloAttention2d', block_size=4, halo_size=1),
    'none': None,
}


def make(**kwargs):
    torch.manual_seed(0)
    return VOLO(**dict(dict(arch=ARCH, img_size=48), **kwargs))


def image(height=48, width=48, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=generator)


def randomise(net):
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            nn.init.normal_(value, std=0.3)
            if name.endswith('running_var'):
                value.abs_().add_(0.5)
    return net


@pytest.mark.parametrize('arch', PARAMETERS)
def test_published_parameter_counts(arch):
    for kind, want in zip(('OutlookAttention2d', 'ELSA2d'), PARAMETERS[arch]):
        with torch.device('meta'):
            net = VOLO(
                arch, attention=dict(type=f'mmea.{kind}'), out_type='raw'
            )
        width = net.norm.normalized_shape[0]
        count = sum(p.numel() for p in net.parameters())
        assert count + 2 * (width * 1000 + 1000) == want


class TestMaps:
    @pytest.mark.parametrize(
        ('size', 'grids'),
        [
            ((48, 48), [(6, 6), (3, 3)]),
            ((65, 31), [(9, 4), (5, 2)]),
            ((8, 17), [(1, 3), (1, 2)]),
            ((1, 1), [(1, 1), (1, 1)]),
        ],
    )
    def test_any_size(self, size, grids):
        net = randomise(make()).eval()
        outs = net(image(*size, batch=1))
        assert isinstance(outs, tuple)
        for out, width, grid in zip(outs, (8, 12), grids, strict=True):
            assert out.shape == (1, width, *grid)
            assert out.isfinite().all()

    def test_what_is_beyond_the_image_is_zero(self):
        """An image and the same with the features' padding written out."""
        net = randomise(make(out_indices=(0,))).double().eval()
        x = image(22, 29).double()
        y = F.pad(net.stem.convs(x), (0, 1, 0, 1))
        assert y.shape[2:] == (12, 16)
        y = F.conv2d(y, net.stem.proj.weight, net.stem.proj.bias, 4)
        y = net.stages[0](y.movedim(1, 3)).movedim(3, 1)
        torch.testing.assert_close(net(x)[0], y)

    def test_named_stages_and_the_last_normalised(self):
        net = randomise(make(out_indices=(0, 1, 3))).eval()
        seen = []
        for stage in net.stages:
            stage[-1].register_forward_hook(lambda *args: seen.append(args[2]))
        outs = net(image(33, 50))
        wants = seen[0], seen[1], net.norm(seen[3])
        for out, want in zip(outs, wants, strict=True):
            torch.testing.assert_close(out, want.movedim(3, 1))

    def test_tokens_are_the_last_map_behind_the_class_token(self):
        net = randomise(make(out_type='raw')).eval()
        maps, token = make(), make(out_type='cls_token')
        token.load_state_dict(net.state_dict())
        left = maps.load_state_dict(net.state_dict(), strict=False)
        assert not left.missing_keys
        assert {k.split('.')[0] for k in left.unexpected_keys} == {
            'cls_token',
            'class_blocks',
        }
        x = image(40, 61)
        (tokens,) = net(x)
        assert tokens.shape == (2, 1 + 3 * 4, 12)
        (got,) = token.eval()(x)
        torch.testing.assert_close(got, tokens[:, 0])
        want = maps.eval()(x)[1].flatten(2).mT
        torch.testing.assert_close(tokens[:, 1:], want)

    def test_positions_keep_their_places(self):
        net = randomise(make(out_indices=(1,))).eval()
        assert net._positions((3, 3)) is net.pos_embed
        with torch.no_grad():
            net.pos_embed.zero_()
            net.pos_embed[:, 2, 0] = 1  # the lower left
            table = net._positions((6, 9))[0, ..., 0]
        assert table.shape == (6, 9)
        assert table.argmax() == 5 * 9 or table.argmax() == 5 * 9 + 1
        assert table[:3].abs().max() < 0.2
        assert make(img_size=(33, 16)).pos_embed.shape == (1, 3, 1, 12)


class TestAttention:
    @pytest.mark.parametrize('name', OTHERS)
    def test_any_member_learns(self, name):
        net = randomise(make(attention=OTHERS[name])).double()
        outs = net(image(33, 18).double())
        sum((out * torch.randn_like(out)).sum() for out in outs).backward()
        for key, param in net.named_parameters():
            assert (param.grad is not None) == param.requires_grad, key
            assert not param.requires_grad or param.grad.isfinite().all()

    def test_settings_of_the_authors_unless_told(self):
        net = make(attention=ELSA)
        layer = net.stages[0][1].attn
        assert (layer.kernel_size, layer.lam, layer.gamma) == (5, 1, 1)
        assert (layer.qk_scale, layer.qkv_proj.bias) == (1, None)
        assert (layer.num_heads, layer.residual) == (2, False)
        own = dict(ELSA, kernel_size=3, lam=0, num_heads=4, residual=True)
        layer = make(attention=own).stages[0][1].attn
        assert (layer.kernel_size, layer.lam, layer.num_heads) == (3, 0, 4)
        assert not layer.residual
        layer = make().stages[0][0].attn
        assert (layer.kernel_size, layer.window_stride) == (3, 2)
        assert layer.value_proj.bias is None and layer.num_heads == 2
        for stage in net.stages[1:]:
            assert stage[0].attn.num_heads == 3
            assert stage[0].attn.qkv_proj.bias is None

    def test_none_leaves_mlps(self):
        block = randomise(make(attention=None)).stages[0][0]
        x = torch.randn(2, 3, 5, 8)
        linear, last = block.ffn.layers[0][0], block.ffn.layers[1]
        want = x + last(F.gelu(linear(block.norm2(x))))
        torch.testing.assert_close(block(x), want)


def test_what_is_not_run_is_frozen():
    net = make(out_indices=(0,))
    outside = [net.downsample, *net.stages[1:], net.norm]
    for module in outside:
        module.forward = None
        assert not any(p.requires_grad for p in module.parameters())
    net(image())
    assert not net.pos_embed.requires_grad
    for kind in ('raw', 'cls_token', 'featmap'):
        net = make(out_type=kind)
        assert all(p.requires_grad for p in net.parameters())
        net(image())[-1].square().sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_stochastic_depth_leaves_out_the_first_stage():
    net = make(drop_path_rate=0.4)
    blocks = [block for stage in net.stages for block in stage]
    for drops in (
        [block.drop_path for block in blocks],
        [block.ffn.dropout_layer for block in blocks],
    ):
        rates = [drop.drop_prob for drop in drops]
        assert rates == pytest.approx([0, 0, 0.2, 0.3, 0.4])
    x = image()
    assert not torch.equal(net.train()(x)[1], net(x)[1])
    net.eval()
    assert torch.equal(net(x)[1], net(x)[1])


@pytest.mark.parametrize('number', [-1, 0, 1, 2, 4])
def test_frozen_stages(number):
    net = make(frozen_stages=number).train()
    parts = dict(
        stem=number >= 0,
        **{f'stages.{i}': number > i for i in range(4)},
        downsample=number > 1,
        pos_embed=number > 1,
        norm=False,
    )
    for name, param in net.named_parameters():
        part = next((p for p in parts if name.startswith(p)), None)
        if part is not None:
            assert param.requires_grad != parts[part], name
    assert net.stem.training == (number < 0)
    assert net.stages[0].training == (number < 1)


def test_norms_that_keep_their_statistics():
    net = make(norm_eval=True).train()
    before = net.stem.convs[1].running_mean.clone()
    net(image())
    assert torch.equal(net.stem.convs[1].running_mean, before)
    assert net.stem.training and net.stages[0].training
    synced = make(norm_cfg=dict(type='SyncBN'))
    assert isinstance(synced.stem.convs[4], nn.SyncBatchNorm)
    revert_sync_batchnorm(synced)(image())


@pytest.mark.parametrize('out_type', ['featmap', 'raw'])
def test_with_cp_changes_nothing(out_type):
    grads = []
    for with_cp in (False, True):
        net = make(with_cp=with_cp, drop_path_rate=0.3, out_type=out_type)
        randomise(net).double()
        torch.manual_seed(2)
        outs = net.train()(image(33, 40).double())
        sum(out.square().mean() for out in outs).backward()
        grads.append([p.grad for p in net.parameters() if p.requires_grad])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('attention', ['OutlookAttention2d', 'ELSA2d'])
def test_initialisation(attention):
    net = make(
        arch=dict(ARCH, embed_dims=(96, 96), stem_channels=16),
        attention=dict(type=f'mmea.{attention}'),
    )
    for _ in range(2):
        for name, module in net.named_modules():
            if isinstance(module, nn.Linear) or name.endswith('out_proj'):
                std = module.weight.std().item()
                assert std == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
        late = net.stages[1][0].attn.qkv_proj.weight
        assert late.std().item() == pytest.approx(0.02, rel=0.05)
        if attention == 'ELSA2d':  # as convolutions are
            early = net.stages[0][0].attn.qkv_proj.weight
            assert early.abs().max().item() == pytest.approx(
                96**-0.5, rel=1e-2
            )
        proj = net.stem.proj.weight
        assert proj.abs().max().item() == pytest.approx(1 / 16, rel=1e-2)
        assert net.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
        randomise(net).init_weights()


def test_a_second_initialisation_keeps_what_was_loaded(tmp_path):
    other = randomise(make())
    path = tmp_path / 'net.pth'
    prefixed = {f'backbone.{k}': v for k, v in other.state_dict().items()}
    torch.save(dict(state_dict=prefixed), path)
    init = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    net = make(init_cfg=init)
    for _ in range(2):
        net.init_weights()
        for name, value in net.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_half_precision_and_batch_of_one():
    net = randomise(make()).eval()
    for param in net.parameters():
        param.data *= 0.2
    x = image(40, 24, batch=1)
    wants = net(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        gots = net(x)
    for got, want in zip(gots, wants):
        assert (got - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(arch='d6'), "d1, d2, d3, d4, d5 or a dict of.*arch='d6'"),
        (dict(arch=dict(embed_dims=8)), 'num_layers.*got arch='),
        (
            dict(arch=dict(ARCH, num_layers=(2, 1))),
            r"arch\['num_layers'\] must be 4 numbers, got \(2, 1\)",
        ),
        (
            dict(arch=dict(ARCH, embed_dims=(8, 0))),
            r"arch\['embed_dims'\]\[1\] must be an int >= 1, got .*=0",
        ),
        (
            dict(arch=dict(ARCH, num_heads=(2, 5))),
            r"arch\['num_heads'\] must divide embed_dims.*12",
        ),
        (dict(img_size=(0, 32)), r'img_size\[0\] must be.*=0'),
        (dict(img_size=(1, 2, 3)), r'img_size=\(1, 2, 3\)'),
        (dict(out_type='tokens'), "featmap, cls_token, raw.*'tokens'"),
        (dict(out_indices=(0, 4)), r'0 to 3.*out_indices=\(0, 4\)'),
        (dict(out_indices=(3, 0)), r'ascending order.*\(3, 0\)'),
        (dict(out_indices=()), r'out_indices=\(\)'),
        (
            dict(out_indices=(3,), out_type='raw'),
            r"out_indices=\(3,\) with out_type='raw'; leave them out",
        ),
        (dict(drop_path_rate=1), 'drop_path_rate=1'),
        (dict(frozen_stages=-2), 'frozen_stages=-2'),
        (dict(attention=dict(type='mmea.Outlook')), 'attention.type'),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)


def test_bad_attention():
    with pytest.raises(TypeError, match='attention must be a dict'):
        make(attention='mmea.ELSA2d')
    with pytest.raises(TypeError, match='attention.kernel is no argument'):
        make(attention=dict(type='mmea.OutlookAttention2d', kernel=3))
    assert ARCHS['d5']['feedforward_channels'] == (1536, 3072)
