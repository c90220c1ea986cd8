"""What a pixel reads is what the layer sums its values with."""

import pytest
import torch
from torch import nn

from mmea.layers import (
    CATT2d,
    CBAMGate2d,
    EfficientAttention2d,
    ELSA2d,
    HaloAttention2d,
    LinearAttention2d,
    NonLocal2d,
    OutlookAttention2d,
    SAGANAttention2d,
    SelfAttention2d,
    StandAloneAttention2d,
)
from mmea.maps import attention_maps

from .test_slots import make_input, make_mask, random

BARE = dict(residual=False)
LAYERS = [
    (SelfAttention2d, dict(num_heads=2)),
    *[
        (NonLocal2d, dict(mode=mode, reduction=1, sub_sample=pooled))
        for mode in ('embedded_gaussian', 'gaussian', 'dot_product')
        for pooled in (False, True)
    ],
    (NonLocal2d, dict(mode='concatenation', reduction=1)),
    (HaloAttention2d, dict(block_size=3, halo_size=1, num_heads=2)),
    (
        HaloAttention2d,
        dict(block_size=4, halo_size=2, masked=False, qkv_bias=True),
    ),  # fmt: skip
    (StandAloneAttention2d, dict(kernel_size=3, num_heads=2)),
    (StandAloneAttention2d, dict(kernel_size=5, position='absolute')),
    (StandAloneAttention2d, dict(kernel_size=3, share_tables=True)),
    (ELSA2d, dict(kernel_size=3, num_heads=2, gamma=0)),
    (OutlookAttention2d, dict(num_heads=2)),
    (OutlookAttention2d, dict(kernel_size=5, window_stride=3)),
    (EfficientAttention2d, dict(num_heads=2)),
    (LinearAttention2d, dict(reduction=1)),
]


def values(layer, x):
    """Of each pixel, (B, heads, D, H, W)."""
    if isinstance(layer, (SelfAttention2d, ELSA2d)):
        value = layer.qkv_proj(x)[:, -layer.in_channels :]
    else:
        value = layer.value_proj(x)
    if getattr(layer, 'sub_sample', False):
        height, width = value.shape[2:]
        value = nn.functional.max_pool2d(value, 2)
        value = value.repeat_interleave(2, 2).repeat_interleave(2, 3)
        value = nn.functional.pad(value, (0, width % 2, 0, height % 2))
    return value.unflatten(1, (getattr(layer, 'num_heads', 1), -1))


@pytest.mark.parametrize('pixel', [(0, 0), (4, 6), (3, 2)])
@pytest.mark.parametrize(
    ('kind', 'options'), LAYERS, ids=lambda p: getattr(p, '__name__', None)
)
def test_the_sum_of_what_is_read_is_the_output(kind, options, pixel):
    layer = random(kind(6, **options, **BARE))
    if isinstance(getattr(layer, 'out_proj', None), nn.Conv2d):
        nn.init.dirac_(layer.out_proj.weight)
        nn.init.zeros_(layer.out_proj.bias)
    elif kind is LinearAttention2d:
        nn.init.ones_(layer.out_proj.gamma)
    for mask in (None, make_mask()):
        if options.get('sub_sample') and mask is not None:
            continue  # pools over the border of the image
        x = make_input(2, 6, 5, 7)
        (seen,) = attention_maps(layer, x, mask, pixel=pixel)['']
        assert seen.pixel == pixel
        if mask is not None:
            x = x * mask[:, None]
        value = values(layer, x)
        if mask is not None:
            value = value * mask[:, None, None]
        got = torch.einsum('bhyx,bhdyx->bhd', seen.reads, value).flatten(1)
        want = layer.attend(x, mask)[..., pixel[0], pixel[1]]
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_pooled_key_is_masked():
    layer = random(NonLocal2d(6, sub_sample=True))
    (seen,) = attention_maps(layer, make_input(2, 6, 5, 7), make_mask())['']
    assert not seen.reads[0, ..., 4:].any()
    assert not seen.reads[..., 6].any()  # none's
    total = seen.reads.sum((1, 2, 3))
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


def test_a_pooled_key_at_an_odd_end():
    """Which SAGAN's attention reads: all weight is on the map."""
    layer = random(SAGANAttention2d(6))
    nn.init.dirac_(layer.value_proj.weight)
    x = make_input(1, 6, 5, 7)
    (seen,) = attention_maps(layer, x, pixel=(4, 6))['']
    pooled = nn.functional.max_pool2d(layer.value_proj(x), 2, ceil_mode=True)
    value = pooled.repeat_interleave(2, 2).repeat_interleave(2, 3)
    got = torch.einsum('bhyx,bdyx->bd', seen.reads, value[..., :5, :7])
    want = layer.attend(x)[..., 4, 6]
    out = layer.gate.sigma * layer.out_proj(got[..., None, None])
    torch.testing.assert_close(out[..., 0, 0], want, rtol=1e-5, atol=1e-5)


def test_stride_and_channelwise():
    x = make_input(2, 6, 5, 7)
    options = dict(block_size=4, halo_size=1, stride=2, project=False)
    layer = random(HaloAttention2d(6, **options, **BARE))
    (seen,) = attention_maps(layer, x, pixel=(3, 6))['']
    value = values(layer, x)
    got = torch.einsum('bhyx,bhdyx->bhd', seen.reads, value).flatten(1)
    torch.testing.assert_close(got, layer(x)[..., 1, 3])

    layer = random(
        StandAloneAttention2d(6, kernel_size=3, channelwise=True, **BARE)
    )
    nn.init.zeros_(layer.value_proj.weight)
    # Values of the window by themselves: one at a time.
    one = torch.zeros(1, 6, 5, 7, dtype=torch.float64)
    one[:, :, 2, 4] = 1
    (seen,) = attention_maps(layer, x, pixel=(3, 3))['']
    layer.value_proj.register_forward_hook(
        lambda *_: one.expand(2, -1, -1, -1)
    )
    want = layer(x)[..., 3, 3].mean(1)
    torch.testing.assert_close(seen.reads[:, 0, 2, 4], want)


def test_catt_reads_the_image():
    layer = random(CATT2d(6, dictionary_size=3, num_heads=2, shared=True))
    x, mask = make_input(2, 6, 5, 7), make_mask()
    seen = attention_maps(layer, x, mask, pixel=(1, 2))[''][0]
    path = layer.layer.cross_path
    tokens = (x * mask[:, None]).flatten(2).transpose(1, 2)
    query = path.query_proj(tokens)[:, 9].unflatten(1, (2, 3))
    key = path.key_proj(tokens).unflatten(2, (2, 3))
    logits = torch.einsum('bhd,bnhd->bhn', query, key) / 3**0.5
    logits = logits.masked_fill(~mask.flatten(1)[:, None], -torch.inf)
    torch.testing.assert_close(seen.reads.flatten(2), logits.softmax(2))


def test_the_gate_is_the_factor():
    layer = random(CBAMGate2d(6, reduction=2, kernel_size=3))
    x, mask = make_input(2, 6, 5, 7), make_mask()
    (seen,) = attention_maps(layer, x, mask)['']
    want = x * seen.gate[:, None] * seen.channel_gate[..., None, None]
    got = layer(x, mask)
    torch.testing.assert_close(got, want * mask[:, None])
