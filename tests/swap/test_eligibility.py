import inspect

import pytest
import torch
from mmcv.cnn.bricks.transformer import (
    BaseTransformerLayer,
    MultiheadAttention,
)
from torch import nn

from mmea.swap import eligibility, swap_attention

from .harness import ANY, Host, find_class, left_because


@pytest.mark.parametrize(
    'name', [name for name, _ in eligibility._SELF + eligibility._MASKED]
)
def test_known_hosts_exist(name):
    find_class(name)


def test_known_part_exists():
    name, part = eligibility._MASKED[-1]
    source = inspect.getsource(find_class(name))
    assert part and f'self.{part} =' in source


def test_another_signature_is_left():
    class Odd(MultiheadAttention):
        def forward(query, memory):
            return query

    host = Host(self_attn=Odd(8, 2))
    report = swap_attention(host, ANY)
    assert 'query, memory' in left_because(report)['self_attn']


def test_cross_attention_and_masks():
    def layer(order):
        attn = dict(type='MultiheadAttention', embed_dims=8, num_heads=2)
        return BaseTransformerLayer(
            attn_cfgs=attn,
            ffn_cfgs=dict(type='FFN', embed_dims=8),
            operation_order=order,
            batch_first=True,
        )

    host = Host(
        encoder=layer(('self_attn', 'norm', 'ffn', 'norm')),
        decoder=layer(('self_attn', 'norm', 'cross_attn', 'norm')),
        attn=MultiheadAttention(8, 2),
        pool=nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
    )
    report = swap_attention(host, ANY)
    assert [s.name for s in report.replaced] == ['encoder.attentions.0']
    reasons = left_because(report)
    assert 'pairwise mask' in reasons['decoder.attentions.0']
    assert reasons['decoder.attentions.1'] == 'cross-attention'
    assert 'cannot be told' in reasons['attn']
    assert 'another width' in reasons['pool']
    x = torch.randn(2, 6, 8)
    host.encoder(x)


def test_hosts_that_mask():
    clip = pytest.importorskip('mmseg.models.text_encoder')
    model = clip.CLIPTextEncoder.__new__(clip.CLIPTextEncoder)
    nn.Module.__init__(model)
    model.layer = Host(self_attn=MultiheadAttention(8, 2))
    report = swap_attention(model, ANY)
    assert 'pairwise mask' in left_because(report)['layer.self_attn']


def test_part_of_a_host_that_masks():
    """The layers of text of Grounding DINO, not those of the image."""
    name = 'mmdet.models.layers.transformer.grounding_dino_layers'
    layers = pytest.importorskip(name)
    cls = layers.GroundingDinoTransformerEncoder
    model = cls.__new__(cls)
    nn.Module.__init__(model)
    for part in ('layers', 'text_layers'):
        attn = MultiheadAttention(8, 2)
        model.add_module(part, nn.ModuleList([Host(self_attn=attn)]))
    report = swap_attention(model, ANY)
    assert [s.name for s in report.replaced] == ['layers.0.self_attn']
    reasons = left_because(report)
    assert 'pairwise mask' in reasons['text_layers.0.self_attn']


def test_fused_encoder_of_torch():
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    model = nn.TransformerEncoder(layer, 1)
    report = swap_attention(model, ANY)
    assert 'enable_nested_tensor=False' in str(report)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    report = swap_attention(model, ANY)
    assert [s.name for s in report.replaced] == ['layers.0.self_attn']
    model.eval()(torch.randn(2, 6, 8))
