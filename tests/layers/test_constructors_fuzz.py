"""Any argument: the layer runs, or one error names what is wrong."""

import inspect
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mmea import layers

CHANNELS = 6
ODD = [
    0,
    -1,
    True,
    2.5,
    float('nan'),
    float('inf'),
    '4',
    '',
    None,
    np.int64(2),
    [4],
    {},
    nn.ReLU(),
    nn.Linear,
]
INTS = [1, 2, 3, 4, 6]
GOOD = {
    'int': INTS,
    'int | None': [*INTS, None],
    'float': [0.0, 0.5, 1e-9, 1],
    'float | None': [0.5, None],
    'bool': [True, False],
    'str': ['position', 'channel', 'dual', 'gaussian', 'dot_product'],
    'str | None': [None, 'auto', 'plain', 'low_rank', 'relative', 'absolute'],
    'norm_layer': [None, nn.BatchNorm2d, nn.InstanceNorm2d],
    'act_layer': [None, nn.ReLU, nn.GELU],
    'in_sample': [None, layers.SelfAttention2d],
    'gate_layer': [None, layers.CBAMGate2d],
    'dropout_layer': [None, nn.Identity],
}
LAYERS = {
    name: getattr(layers, name)
    for name in layers.__all__
    if name not in ('AttentionBlock2d', 'switch_to_deploy')
}
RARE = ('in_channels', 'embed_dims')  # sizes that have to fit the input


def good(param: inspect.Parameter) -> list:
    if param.name in RARE:
        return [CHANNELS]
    if param.default is nn.BatchNorm1d:
        return [None, nn.BatchNorm1d, nn.InstanceNorm1d]
    if param.name in GOOD:
        return GOOD[param.name]
    kind = param.annotation
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return GOOD.get(kind) or GOOD[str(param.annotation)]


@st.composite
def calls(draw) -> tuple[str, dict]:
    """A layer, and some of its arguments; one of them may be odd."""
    name = draw(st.sampled_from(sorted(LAYERS)))
    params = inspect.signature(LAYERS[name]).parameters.values()
    kwargs = {}
    for param in params:
        needed = param.default is param.empty
        if needed or draw(st.booleans()):
            kwargs[param.name] = draw(st.sampled_from(good(param)))
    if draw(st.booleans()):
        odd = draw(st.sampled_from([param.name for param in params]))
        kwargs[odd] = draw(st.sampled_from(ODD))
    return name, kwargs


def run(layer: nn.Module) -> None:
    torch.manual_seed(0)
    if isinstance(layer, layers.CATTLayer):
        outs = layer(torch.randn(2, 5, CHANNELS), torch.randn(1, 3, CHANNELS))
    elif isinstance(layer, layers.OffsetAttention1d):
        outs = layer(torch.randn(2, CHANNELS, 7))
    elif hasattr(layer, 'embed_dims'):
        outs = layer(torch.randn(2, 5, CHANNELS))
    else:
        outs = layer(torch.randn(2, CHANNELS, 7, 5))
    for out in outs if isinstance(outs, tuple) else (outs,):
        assert out.isfinite().all()


@settings(
    max_examples=int(os.environ.get('MMEA_FUZZ_EXAMPLES', 300)),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(calls())
def test_runs_or_names_the_argument(call):
    name, kwargs = call
    try:
        layer = LAYERS[name](**kwargs)
    except (TypeError, ValueError) as error:
        message = str(error)
        assert '\n' not in message
        known = inspect.signature(LAYERS[name]).parameters
        assert any(argument in message for argument in known), message
        return
    run(layer.eval())


@pytest.mark.parametrize('value', [float('nan'), float('inf'), '1', True])
@pytest.mark.parametrize(
    'name, kwargs',
    [
        ('ELSA2d', dict(gamma=0)),
        ('ELSA2d', dict(qk_scale=0)),
        ('ExternalAttention2d', dict(eps=0)),
        ('MultiheadExternalAttention', dict(eps=0)),
        ('MultiheadExternalAttention', dict(attn_drop=0)),
        ('MultiheadExternalAttention', dict(proj_drop=0)),
        ('OffsetAttention1d', dict(eps=0)),
        ('CATTLayer', dict(norm_eps=0)),
        ('CATTLayer', dict(dropout=0)),
        ('CATT2d', dict(dropout=0)),
        ('CaaMAttention', dict(attn_drop=0)),
    ],
)
def test_numbers_are_finite(name, kwargs, value):
    params = inspect.signature(LAYERS[name]).parameters
    sizes = {'in_channels': 6, 'embed_dims': 6, 'num_heads': 2}
    sizes = {k: v for k, v in sizes.items() if k in params}
    [argument] = kwargs
    with pytest.raises(ValueError, match=f'{argument} must be .*{value}'):
        LAYERS[name](**sizes, **{argument: value})
