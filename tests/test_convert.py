import re

import pytest
import torch
from torch import nn

from mmea import layers
from mmea.convert import SOURCES, convert, list_sources
from mmea.layers import (
    CaaMAttention,
    CATT2d,
    CATTLayer,
    CBAMGate2d,
    EfficientAttention2d,
    ELSA2d,
    ExternalAttention2d,
    HaloAttention2d,
    LinearAttention2d,
    MultiheadExternalAttention,
    NonLocal2d,
    OffsetAttention1d,
    StandAloneAttention2d,
)

from .conftest import ROOT, tool
from .test_oracle import CALL, build


def published_block(c=6, s=64, prefix=''):
    """Names and shapes of the published block."""
    shapes = {
        'conv1.weight': (c, c, 1, 1),
        'conv1.bias': (c,),
        'linear_0.weight': (s, c, 1),
        'linear_1.weight': (c, s, 1),
        'conv2.0.weight': (c, c, 1, 1),
        'conv2.1.weight': (c,),
        'conv2.1.bias': (c,),
        'conv2.1.running_mean': (c,),
        'conv2.1.running_var': (c,),
    }
    state = {
        prefix + name: torch.randn(*size) for name, size in shapes.items()
    }
    state[prefix + 'conv2.1.num_batches_tracked'] = torch.tensor(7)
    return state


@pytest.mark.parametrize('parallel', ['', 'module.'])
def test_block(parallel):
    old = published_block()
    new = convert({parallel + k: v for k, v in old.items()}, 'eanet_block')
    block = ExternalAttention2d(6, norm_layer=nn.BatchNorm2d)
    block.load_state_dict(new)
    assert torch.equal(block.key_memory, old['linear_0.weight'][:, :, 0])
    assert torch.equal(block.value_memory, old['linear_1.weight'][:, :, 0].t())
    assert block.norm.num_batches_tracked == 7


def test_whole_net():
    """Every name of a published EANet meets one of the VOC config's model."""
    pytest.importorskip('mmseg')
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import mmea

    init_default_scope('mmseg')
    cfg = Config.fromfile(
        mmea.config('eanet/eanet_r50-d8_4xb4-45k_voc12aug-513x513.py')
    )
    state = MODELS.build(cfg.model).state_dict()
    back = {
        'stem.7.': '1.',
        'stem.': '0.',
        'layer1': '4',
        'layer2': '5',
        'layer3': '6',
        'layer4': '7',
    }
    block = {
        'in_proj.': 'conv1.',
        'key_memory': 'linear_0.weight',
        'value_memory': 'linear_1.weight',
        'out_proj.': 'conv2.0.',
        'norm.': 'conv2.1.',
    }
    head = {'conv_in.': 'fc0.', 'conv_out.': 'fc1.0.', 'conv_seg.': 'fc2.'}
    published = {}
    for name, value in state.items():
        part, _, rest = name.partition('.')
        if part == 'backbone':
            prefix, table = 'extractor.', back
        elif rest.startswith('attention.'):
            prefix, table = 'linu.', block
            rest = rest.removeprefix('attention.')
        else:
            prefix, table = '', head
        old = next(o for o in table if rest.startswith(o))
        key = prefix + table[old] + rest.removeprefix(old)
        if old == 'key_memory':
            value = value[..., None]
        elif old == 'value_memory':
            value = value.t()[..., None]
        published[key] = value
    assert {
        'extractor.0.0.weight',
        'extractor.0.6.weight',
        'extractor.1.weight',
        'extractor.4.0.conv1.weight',
        'extractor.7.2.bn3.bias',
        'extractor.5.0.downsample.0.weight',
        'linu.linear_0.weight',
        'fc1.0.bn.weight',
        'fc2.bias',
    } <= published.keys()
    got = convert(published, 'eanet')
    assert got.keys() == state.keys()
    for name, value in got.items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    'mode', ['embedded_gaussian', 'gaussian', 'dot_product', 'concatenation']
)
@pytest.mark.parametrize('sub_sample', [False, True])
@pytest.mark.parametrize('norm', [None, 'BN', 'GN'])
def test_non_local(mode, sub_sample, norm):
    """mmcv's own block beside ours: every name, the output, the gradients."""
    bricks = pytest.importorskip('mmcv.cnn')
    cfg = dict(BN=dict(type='BN'), GN=dict(type='GN', num_groups=2))
    layer = dict(BN=nn.BatchNorm2d, GN=lambda c: nn.GroupNorm(2, c))
    kwargs = dict(mode=mode, sub_sample=sub_sample)
    old = bricks.NonLocal2d(8, norm_cfg=cfg.get(norm), **kwargs).double()
    for param in old.parameters():
        nn.init.normal_(param, std=0.3)
    new = NonLocal2d(8, norm_layer=layer.get(norm), **kwargs).double()
    new.load_state_dict(convert(old.state_dict(), 'non_local'))
    xs = [torch.randn(2, 8, 5, 6, dtype=torch.float64).requires_grad_()]
    xs.append(xs[0].detach().clone().requires_grad_())
    ys = [old(xs[0]), new(xs[1])]
    torch.testing.assert_close(*ys)
    if mode == 'concatenation':
        # mmcv divides the output of its ReLU in place: it has no backward.
        return
    for y in ys:
        (y * ys[0].detach()).sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad)
    want = convert({n: p.grad for n, p in old.named_parameters()}, 'non_local')
    got = {name: param.grad for name, param in new.named_parameters()}
    assert got.keys() == want.keys()
    for name, grad in got.items():
        torch.testing.assert_close(grad, want[name])


def test_efficient_attention():
    new = EfficientAttention2d(8, key_channels=6, num_heads=2)
    old = {}
    for ours, theirs in (
        ('key_proj', 'keys'),
        ('query_proj', 'queries'),
        ('value_proj', 'values'),
        ('out_proj', 'reprojection'),
    ):
        for kind in ('weight', 'bias'):
            value = new.get_parameter(f'{ours}.{kind}')
            old[f'{theirs}.{kind}'] = torch.randn_like(value)
    new.load_state_dict(convert(old, 'efficient_attention'))
    assert torch.equal(new.query_proj.bias, old['queries.bias'])
    assert torch.equal(new.key_proj.weight, old['keys.weight'])


def test_linear_attention():
    new = LinearAttention2d(16)
    old = {'gamma': torch.randn(1)}
    for name in ('query', 'key', 'value'):
        for kind in ('weight', 'bias'):
            value = new.get_parameter(f'{name}_proj.{kind}')
            old[f'{name}_conv.{kind}'] = torch.randn_like(value)
    new.load_state_dict(convert(old, 'linear_attention'))
    assert torch.equal(new.out_proj.gamma, old['gamma'])
    assert torch.equal(new.key_proj.weight, old['key_conv.weight'])


@pytest.mark.parametrize(
    ('size', 'kwargs'),
    [
        ((2, 4), dict(num_heads=2)),
        ((4,), dict(num_heads=2, share_tables=True)),
        ((8, 1, 1), dict(channelwise=True)),
    ],
)
def test_stand_alone_attention(size, kwargs):
    tail = [(5, 1), (1, 5)] if 'channelwise' in kwargs else [(5,), (5,)]
    old = {
        'rel_h': torch.randn(*size, *tail[0]),
        'rel_w': torch.randn(*size, *tail[1]),
        **{
            f'{name}_conv.weight': torch.randn(16, 6, 1, 1)
            for name in ('query', 'key', 'value')
        },
    }
    new = StandAloneAttention2d(
        6, out_channels=16, kernel_size=5, residual=False, **kwargs
    )
    new.load_state_dict(convert(old, 'stand_alone_attention'))
    assert torch.equal(new.row_tables.flatten(), old['rel_h'].flatten())
    assert torch.equal(new.value_proj.weight, old['value_conv.weight'])


def test_halo_attention():
    """One kv layer, in its two orders."""
    options = dict(block_size=2, halo_size=1, num_heads=2, residual=False)
    keys, values = torch.randn(6, 5), torch.randn(6, 5)
    tables = torch.randn(2, 7, 3)
    old = {
        'to_q.weight': torch.randn(6, 5),
        'to_kv.weight': torch.cat([keys, values]),
        'to_out.weight': torch.randn(6, 6),
        'to_out.bias': torch.randn(6),
        'rel_pos_emb.rel_height': tables[0],
        'rel_pos_emb.rel_width': tables[1],
    }
    new = HaloAttention2d(5, out_channels=6, **options)
    new.load_state_dict(convert(old, 'halonet'))
    assert torch.equal(new.key_proj.weight.flatten(1), keys)
    assert torch.equal(new.value_proj.weight.flatten(1), values)
    assert torch.equal(new.out_proj.weight.flatten(1), old['to_out.weight'])
    assert torch.equal(new.row_table, tables[0])
    old = {
        'q.weight': old['to_q.weight'][:, :, None, None],
        'kv.weight': torch.cat([keys[:3], values[:3], keys[3:], values[3:]])[
            :, :, None, None
        ],
        'pos_embed.height_rel': tables[0],
        'pos_embed.width_rel': tables[1],
    }
    new = HaloAttention2d(5, out_channels=6, project=False, **options)
    new.load_state_dict(convert(old, 'timm_halo'))
    assert torch.equal(new.key_proj.weight.flatten(1), keys)
    assert torch.equal(new.value_proj.weight.flatten(1), values)
    del old['q.weight']
    with pytest.raises(ValueError, match="'kv.weight' holds.*'q.weight'"):
        convert(old, 'timm_halo')


@pytest.mark.parametrize('lam', [0, 1])
def test_elsa(lam):
    new = ELSA2d(9, kernel_size=3, lam=lam)
    ours = {'pre_proj': 'qkv_proj', 'attn.0': 'attn_conv'}
    ours.update({'attn.2': 'attn_proj', 'post_proj': 'out_proj'})
    size = (2, 1, 9, 3, 3) if lam else (1, 9, 3, 3)
    old = {'ghost_head': torch.randn(size)}
    for theirs, name in ours.items():
        for kind in ('weight', 'bias'):
            value = torch.randn_like(new.get_parameter(f'{name}.{kind}'))
            old[f'{theirs}.{kind}'] = value
    old['post_proj.weight'] = old['post_proj.weight'].flatten(1)
    new.load_state_dict(convert(old, 'elsa'))
    assert torch.equal(new.ghost_head.flatten(), old['ghost_head'].flatten())
    assert torch.equal(new.attn_proj.bias, old['attn.2.bias'])
    assert torch.equal(new.out_proj.weight.flatten(1), old['post_proj.weight'])


def test_multihead_external_attention():
    new = MultiheadExternalAttention(6, 2, num_slots=5)
    old = {
        'trans_dims.weight': torch.randn(24, 6),
        'trans_dims.bias': torch.randn(24),
        'linear_0.weight': torch.randn(5, 3),
        'linear_0.bias': torch.randn(5),
        'linear_1.weight': torch.randn(3, 5),
        'linear_1.bias': torch.randn(3),
        'proj.weight': torch.randn(6, 24),
        'proj.bias': torch.randn(6),
    }
    new.load_state_dict(convert(old, 'eamlp_attention'))
    assert torch.equal(new.key_memory, old['linear_0.weight'])
    assert torch.equal(new.value_memory, old['linear_1.weight'].t())
    assert torch.equal(new.out_proj.weight, old['proj.weight'])


def test_caam():
    new = CBAMGate2d(32)
    old = {}
    for ours, theirs in (
        ('channel_fc1.', 'ChannelGate.mlp.1.'),
        ('channel_fc2.', 'ChannelGate.mlp.3.'),
        ('token_conv.', 'SpatialGate.spatial.conv.'),
        ('token_norm.', 'SpatialGate.spatial.bn.'),
    ):
        for name, value in new.state_dict().items():
            if name.startswith(ours):
                old[name.replace(ours, theirs)] = torch.ones_like(value)
    new.load_state_dict(convert(old, 'caam_cbam'))
    assert all(value.eq(1).all() for value in new.state_dict().values())
    new = CaaMAttention(8, 2)
    old = {'qkv.weight': torch.randn(24, 8), 'proj.weight': torch.randn(8, 8)}
    old['proj.bias'] = torch.randn(8)
    new.load_state_dict(convert(old, 'caam_attention'))
    assert torch.equal(new.qkv_proj.weight, old['qkv.weight'])


def test_pct_attention():
    """Queries and keys are one parameter under two names."""
    new = OffsetAttention1d(8)
    old = {
        'q_conv.weight': torch.randn(2, 8, 1),
        'v_conv.weight': torch.randn(8, 8, 1),
        'v_conv.bias': torch.randn(8),
        'trans_conv.weight': torch.randn(8, 8, 1),
        'trans_conv.bias': torch.randn(8),
    }
    for name, value in new.norm.state_dict().items():
        old[f'after_norm.{name}'] = torch.ones_like(value)
    old['k_conv.weight'] = old['q_conv.weight'].clone()
    new.load_state_dict(convert(old, 'pct_attention'))
    assert torch.equal(new.query_proj.weight, old['q_conv.weight'])
    assert torch.equal(new.out_proj.bias, old['trans_conv.bias'])
    old['k_conv.weight'][0] += 1
    with pytest.raises(ValueError, match="'k_conv.weight' is not 'q_conv"):
        convert(old, 'pct_attention')


@pytest.mark.parametrize('kind', ['ft', 'ft_same', 'ft_same_fused'])
def test_catt(kind):
    """Every name of ours has one of theirs."""
    if kind == 'ft':
        new = CATTLayer(8, 2)
    elif kind == 'ft_same':
        new = CATTLayer(8, 2, shared=True)
    else:
        new = CATT2d(8, num_heads=2, shared=True)
    names = {
        'query_proj': 'attention.{}.query',
        'key_proj': 'attention.{}.key',
        'value_proj': 'attention.{}.value',
        'attn_proj': 'attention.output.dense',
        'attn_norm': 'attention.output.LayerNorm',
        'fc1': 'intermediate.dense',
        'fc2': 'output.dense',
        'norm': 'output.LayerNorm',
    }
    old = {}
    for name, value in new.state_dict().items():
        *prefix, path, part, leaf = ['', '', *name.split('.')]
        value = torch.randn_like(value)
        if part == 'out_proj':
            old[f'fc.{leaf}'] = value.flatten(1) if value.dim() > 1 else value
        elif part in names:
            where = 'self' if path == 'in_path' else 'att'
            theirs = names[part].format(where)
            if kind == 'ft' and path == 'cross_path':
                theirs = 'FT' + theirs
            if 'layer' in prefix:
                theirs = 'layer.' + theirs
            old[f'{theirs}.{leaf}'] = value
    got = convert(old, f'catt_{kind}')
    missing, unexpected = new.load_state_dict(got, strict=False)
    assert not unexpected
    assert missing == (['dictionary'] if kind == 'ft_same_fused' else [])


def test_command(tmp_path, run):
    torch.save(published_block(), tmp_path / 'old.pth')
    main = tool('model_converters/convert.py')
    new = tmp_path / 'folder/new.pth'
    run(main, 'eanet_block', tmp_path / 'old.pth', new)
    block = ExternalAttention2d(6, norm_layer=nn.BatchNorm2d)
    block.load_state_dict(torch.load(new)['state_dict'])
    with pytest.raises(SystemExit, match='^error: no such checkpoint'):
        run(main, 'eanet_block', tmp_path / 'gone.pth', new)
    old = tmp_path / 'old.pth'
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(SystemExit, match='empty.pth holds no weights'):
        run(main, 'eanet_block', tmp_path / 'empty.pth', new)
    with pytest.raises(SystemExit, match='is the published checkpoint itself'):
        run(main, 'eanet_block', old, tmp_path / 'folder/../old.pth')
    with pytest.raises(SystemExit, match='^error: cannot write .*folder: '):
        run(main, 'eanet_block', old, tmp_path / 'folder')
    with pytest.raises(SystemExit, match='^error: cannot write .*new.pth/a: '):
        run(main, 'eanet_block', old, new / 'a')


def test_sources_are_told_once():
    table = list_sources()
    assert table.count('\n') == len(SOURCES) + 1
    # With what would compute something else in silence.
    assert 'project=False, scale_position=False, residual=False)`' in table
    assert '`LinearAttention2d(compat=True)` in that `mode`' in table
    page = ROOT / 'docs/checkpoints.md'
    assert f'\n{table}\n' in page.read_text(encoding='utf-8')


def call(source):
    """The layer and the arguments that the table names, if it does."""
    found = CALL.match(SOURCES[source].target)
    return found and found.groups()


@pytest.mark.parametrize('source', list(filter(call, SOURCES)))
def test_calls_of_the_table(source):
    """Each builds; tests/test_oracle.py compares what it computes."""
    name, _ = call(source)
    layer = getattr(layers, name)
    on_tokens = (CATTLayer, CaaMAttention, MultiheadExternalAttention)
    heads = [2] if layer in on_tokens else []
    assert type(build(source, 16, *heads)) is layer


@pytest.mark.parametrize(
    ('source', 'page', 'number'),
    [
        ('eanet_block', 'external_attention', 0),
        ('halonet', 'halo_attention', 0),
        ('timm_halo', 'halo_attention', 1),
    ],
)
def test_pages_say_what_the_table_says(source, page, number):
    """Where a page shows how to build what was published."""
    name, said = call(source)
    text = (ROOT / f'docs/layers/{page}.md').read_text(encoding='utf-8')
    shown = re.findall(
        rf'^{name}\((.*?)\n?\)$', text, re.DOTALL | re.MULTILINE
    )
    facts = {fact.strip() for fact in shown[number].split(',')}
    assert set(said.split(', ')) <= facts
    if source == 'timm_halo':
        told = ' '.join(getattr(layers, name).__doc__.split())
        assert f'``{said.removesuffix(", residual=False")}`` that of' in told


def test_errors():
    with pytest.raises(ValueError, match="source='eanett'.*eanet_block"):
        convert({}, 'eanett')
    with pytest.raises(ValueError, match="'conv9.weight' is no name of"):
        convert({'conv9.weight': torch.ones(1)}, 'eanet_block')
