"""VOLO and its parts against numbers recorded from the authors' code."""

import pytest
from mmengine.registry import DefaultScope

pytest.importorskip('mmcv')

from mmea.convert import SOURCES, volo_rules
from mmea.layers import OutlookAttention2d, SelfAttention2d
from mmea.models import ELSA2d
from mmea.models.backbones.volo_blocks import ClassBlock, MapBlock
from mmea.registry import MODELS
from tests.host_oracle import host_cases
from tests.test_oracle import Case, build

pytestmark = pytest.mark.oracle


def on_maps(layer):
    """Call with tokens (B, H, W, C), as the authors' parts are called."""
    return lambda x: layer(x.movedim(3, 1)).movedim(1, 3)


@pytest.mark.parametrize('path', host_cases('volo_outlook_attention_'))
def test_outlook_attention(path):
    case = Case(path)
    ctor = case.meta['ctor']
    assert ctor['padding'] == ctor['kernel_size'] // 2
    layer = build(
        'outlook_attention',
        ctor['dim'],
        kernel_size=ctor['kernel_size'],
        window_stride=ctor['stride'],
        num_heads=ctor['num_heads'],
        value_bias=ctor['qkv_bias'],
    )
    case.check_module(layer, 'outlook_attention', on_maps(layer))


@pytest.fixture
def check_part(monkeypatch):
    """Compare a part that has no conversion of its own."""

    def check(case, module, rules):
        source = SOURCES['volo']._replace(rules=rules)
        monkeypatch.setitem(SOURCES, 'part', source)
        case.check_module(module, 'part')

    return check


def hidden(ctor):
    return int(ctor['dim'] * ctor['mlp_ratio'])


@pytest.mark.parametrize('path', host_cases('volo_outlooker'))
def test_outlooker(path, check_part):
    case = Case(path)
    ctor = case.meta['ctor']
    attention = OutlookAttention2d(
        ctor['dim'],
        kernel_size=ctor['kernel_size'],
        window_stride=ctor['stride'],
        num_heads=ctor['num_heads'],
        residual=False,
    )
    block = MapBlock(ctor['dim'], hidden(ctor), attention)
    check_part(case, block, volo_rules.EARLY_BLOCK)


@pytest.mark.parametrize('path', host_cases('elsa_block'))
def test_elsa_block(path, check_part):
    case = Case(path)
    ctor = dict(case.meta['ctor'])
    width = hidden(ctor)
    ctor.pop('mlp_ratio')
    attention = ELSA2d(ctor.pop('dim'), residual=False, **ctor)
    block = MapBlock(attention.in_channels, width, attention)
    check_part(case, block, volo_rules.EARLY_BLOCK)


@pytest.mark.parametrize('path', host_cases('volo_transformer_block'))
def test_transformer_block(path, check_part):
    case = Case(path)
    ctor = case.meta['ctor']
    attention = SelfAttention2d(
        ctor['dim'],
        num_heads=ctor['num_heads'],
        qkv_bias=False,
        residual=False,
    )
    block = MapBlock(ctor['dim'], hidden(ctor), attention)
    check_part(case, block, volo_rules.LATE_BLOCK)


@pytest.mark.parametrize('path', host_cases('volo_class_block'))
def test_class_block(path, check_part):
    case = Case(path)
    ctor = case.meta['ctor']
    block = ClassBlock(ctor['dim'], ctor['num_heads'], hidden(ctor))
    check_part(case, block, volo_rules.CLASS_BLOCK)


@pytest.mark.parametrize(
    'path', [*host_cases('volo_net_'), *host_cases('elsa_volo_net_')]
)
def test_network(path):
    pytest.importorskip('mmpretrain.models')
    case = Case(path)
    ctor = case.meta['ctor']
    sizes = {
        key: ctor[key] for key in ('embed_dims', 'num_heads', 'mlp_ratios')
    }
    # The three stages of stride 16 are alike.
    assert all(s[1:2] * 2 == s[2:] for s in sizes.values())
    dims, heads, ratios = (s[:2] for s in sizes.values())
    attention = dict(type='mmea.OutlookAttention2d')
    if 'group_width' in ctor:
        attention = dict(
            type='mmea.ELSA2d',
            group_width=ctor['group_width'],
            kernel_size=ctor['kernel_size'],
        )
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmea.VOLO',
            arch=dict(
                num_layers=ctor['layers'],
                embed_dims=dims,
                num_heads=heads,
                feedforward_channels=[
                    int(d * r) for d, r in zip(dims, ratios)
                ],
                stem_channels=ctor['stem_hidden_dim'],
            ),
            attention=attention,
            img_size=ctor['img_size'],
            out_type='raw',
        ),
        head=dict(
            type='mmea.VOLOHead',
            num_classes=ctor['num_classes'],
            in_channels=dims[1],
        ),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    case.check_module(
        model, 'volo', lambda x: model.head(model.extract_feat(x))
    )
