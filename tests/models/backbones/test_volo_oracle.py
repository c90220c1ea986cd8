"""VOLO and its parts against numbers recorded from the authors' code."""

import pytest

pytest.importorskip('mmcv')

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
