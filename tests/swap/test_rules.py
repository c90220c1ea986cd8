import pytest
import torch
from mmcv.cnn import NonLocal2d
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import nn

from mmea.swap import SOURCES, swap_attention

from .harness import ANY, EA, Host, find_class, left_because


@pytest.mark.parametrize('name', sum(SOURCES.values(), ()))
def test_known_classes_exist(name):
    """A class that moved would never match."""
    find_class(name)


def test_outermost_match():
    """One adapter for mmcv's attention and torch's inside it."""
    host = Host(self_attn=MultiheadAttention(8, 2))
    report = swap_attention(host, ANY)
    assert [s.name for s in report.replaced] == ['self_attn']
    host = Host(self_attn=MultiheadAttention(8, 2))
    rule = dict(source='torch.nn.MultiheadAttention', target=EA)
    report = swap_attention(host, [rule])
    assert isinstance(host.self_attn, MultiheadAttention)
    reason = left_because(report)['self_attn']
    assert 'name MultiheadAttention as the source' in reason
    assert report.unused == []


def test_isinstance():
    """A base names its subclasses; each keeps its own signature."""
    dnl = pytest.importorskip('mmseg.models.decode_heads.dnl_head')
    mit = pytest.importorskip('mmseg.models.backbones.mit')
    host = Host(
        a=dnl.DisentangledNonLocal2d(8, temperature=0.05),
        b=mit.EfficientMultiheadAttention(8, 2, sr_ratio=2),
        c=NonLocal2d(8),
    )
    rules = [
        dict(source='DisentangledNonLocal2d', target=dict(EA)),
        dict(source=NonLocal2d, target=dict(EA, num_slots=2)),
        dict(source='mmcv.cnn.bricks.transformer.MultiheadAttention',
             target=EA),
    ]  # fmt: skip
    report = swap_attention(host, rules)
    assert [s.name for s in report.replaced] == ['a', 'b', 'c']
    assert host.a.key_memory.shape[0] == 4
    assert host.c.key_memory.shape[0] == 2
    host.b(torch.randn(1, 4, 8), (2, 2))


def test_where_and_unused():
    host = Host(a=NonLocal2d(8), b=NonLocal2d(8))
    rules = [
        dict(source='NonLocal2d', target=EA, where='b*'),
        dict(source='ContextBlock', target=EA),
    ]
    report = swap_attention(host, rules)
    assert [s.name for s in report.replaced] == ['b']
    assert left_because(report) == {'a': 'no rule matches'}
    assert report.unused == ['ContextBlock']
    assert 'A rule was not used: ContextBlock' in str(report)


@pytest.mark.parametrize(
    'rule, match',
    [
        (dict(source='NonLocal2d'), 'keys source and target'),
        (dict(source='any', target=EA, to=1), "got .*'to'"),
        (dict(source='NonLocal3d', target=EA), "source='NonLocal3d'"),
        (dict(source='torch.nn.Conv2d', target=EA), 'is unknown; choose'),
        (dict(source=nn.Module, target=EA), 'is unknown; choose'),
        (
            dict(source='any', target=dict(EA, residual=True)),
            'target.residual is set by what is replaced',
        ),
        (
            dict(source='any', target=dict(EA, stride=2)),
            'target.stride is set by what is replaced',
        ),
        (
            dict(source='any', target=dict(type='mmea.Extern')),
            'b: attention.type=.*not registered',
        ),
        (
            dict(source='any', target=dict(type='Conv2d')),
            'b: target Conv2d is no layer of mmea for maps',
        ),
        (
            dict(source='any', target=dict(type='mmea.CaaMAttention')),
            'b: target CaaMAttention is no layer of mmea for maps',
        ),
        ('any', "rules is a list of dicts.*got 'any'"),
        (
            dict(source='any', target='mmea.ExternalAttention2d'),
            "target must be the config of a layer.*got 'mmea.Ext",
        ),
        (
            dict(source='any', target=EA, where=['a', 'b']),
            r"where must be one pattern.*got \['a', 'b'\]",
        ),
        (
            dict(source='any', target=dict(EA, batch_first=True)),
            'target.batch_first is set by what is replaced',
        ),
        (
            # It could not start as the identity.
            dict(source='any', target=dict(type='mmea.CBAMGate2d')),
            'b: no weight of a gate makes it zero',
        ),
        (
            dict(source='any', target=dict(EA, num_slots=0)),
            'b: num_slots',
        ),
    ],
)
def test_bad_rules(rule, match):
    block = NonLocal2d(8)
    host = Host(b=block)
    with pytest.raises((ValueError, TypeError), match=match):
        swap_attention(host, [rule])
    assert host.b is block
