import copy

import pytest
import torch
from mmcv.cnn import build_plugin_layer
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmengine.model import BaseModule, revert_sync_batchnorm
from torch import nn

import mmea
from mmea import layers
from mmea.layers import _norms as batch_norm
from mmea.models import ExternalAttention2d, build_attention
from mmea.models import registered_layers as registered
from mmea.registry import MODELS

# The layers on maps.
MEMBERS = [
    n for n in registered.__all__ if hasattr(getattr(layers, n), 'attend')
]


def test_configs_become_layers():
    built = MODELS.build(
        dict(
            type='mmea.ExternalAttention2d',
            in_channels=8,
            num_slots=3,
            norm_cfg=dict(type='GN', num_groups=2, eps=1e-3),
            act_cfg=dict(type='LeakyReLU', negative_slope=0.2),
            zero_init=False,
        )
    )
    plain = layers.ExternalAttention2d(
        8,
        num_slots=3,
        norm_layer=lambda c: nn.GroupNorm(2, c, eps=1e-3),
        act_layer=lambda: nn.LeakyReLU(0.2),
        zero_init=False,
    )
    plain.load_state_dict(built.state_dict())
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(built(x), plain(x))


def test_every_layer_has_a_registered_form():
    assert set(registered.__all__) == set(mmea.list_attentions())


@pytest.mark.parametrize('name', MEMBERS)
def test_any_layer_by_its_name(name):
    """With the keys that every system takes, as the configs write them."""
    layer = build_attention(
        dict(
            type=f'mmea.{name}',
            norm_cfg=dict(type='BN'),
            act_cfg=dict(type='ReLU'),
            zero_init=False,
            with_cp=True,
        ),
        in_channels=8,
    )
    assert isinstance(layer, getattr(layers, name))
    assert isinstance(layer.norm, nn.BatchNorm2d)
    x = torch.randn(2, 8, 5, 3, requires_grad=True)
    layer(x).sum().backward()
    assert layer(x).ge(0).all() and x.grad.abs().max() > 0


def test_offset_attention():
    built = MODELS.build(
        dict(
            type='mmea.OffsetAttention1d',
            in_channels=8,
            external=True,
            norm_cfg=dict(type='GN', num_groups=2),
            act_cfg=dict(type='LeakyReLU', negative_slope=0.2),
        )
    )
    plain = layers.OffsetAttention1d(
        8,
        external=True,
        norm_layer=lambda c: nn.GroupNorm(2, c),
        act_layer=lambda: nn.LeakyReLU(0.2),
    )
    plain.load_state_dict(built.state_dict())
    x = torch.randn(2, 8, 5)
    torch.testing.assert_close(built(x), plain(x))
    cfg = dict(type='mmea.OffsetAttention1d', in_channels=8, norm_cfg=None)
    assert MODELS.build(cfg).norm is None


def test_frozen_norm():
    layer = ExternalAttention2d(
        4, norm_cfg=dict(type='BN', requires_grad=False)
    )
    assert not any(p.requires_grad for p in layer.norm.parameters())


@pytest.mark.parametrize('name', MEMBERS)
def test_plugin_builder_names_it(name):
    """By its file: a checkpoint's keys hold the name."""
    got, layer = build_plugin_layer(
        dict(type=f'mmea.{name}'), postfix='_1', in_channels=8
    )
    file = getattr(layers, name).__module__.rpartition('.')[2]
    assert got == f'{file}_1'
    assert isinstance(layer, getattr(layers, name))


def test_identity_survives_the_init_of_a_host():
    class Host(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Kaiming', layer='Conv2d'))
            self.layer = ExternalAttention2d(4)

    host = Host()
    host.init_weights()
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(host.layer(x), x)


@pytest.mark.parametrize('package', ['mmseg', 'mmdet'])
def test_as_a_plugin_of_a_resnet(package):
    """In the bottlenecks: identity at the start, trained afterwards."""
    backbones = pytest.importorskip(f'{package}.models.backbones')
    plugin = dict(
        cfg=dict(type='mmea.ExternalAttention2d', num_slots=4),
        stages=(False, False, True, True),
        position='after_conv3',
    )
    cfg = dict(depth=50, base_channels=4, stem_channels=4, init_cfg=None)
    torch.manual_seed(0)
    plain = backbones.ResNet(**cfg)
    plain.init_weights()
    model = backbones.ResNet(**cfg, plugins=[plugin])
    model.init_weights()
    own = [m for m in model.modules() if isinstance(m, ExternalAttention2d)]
    assert len(own) == 6 + 3
    missing, unexpected = model.load_state_dict(
        plain.state_dict(), strict=False
    )
    assert not unexpected
    assert all('external_attention2d' in name for name in missing)
    x = torch.randn(2, 3, 65, 33)
    for got, want in zip(copy.deepcopy(model)(x), copy.deepcopy(plain)(x)):
        torch.testing.assert_close(got, want)
    sum((out * torch.randn_like(out)).sum() for out in model(x)).backward()
    assert all(p.grad is not None for p in model.parameters())
    # The last layer moves at once; the rest follows when it is not zero.
    assert all(m.out_proj.weight.grad.abs().max() > 0 for m in own)


def test_low_rank_form_with_norms_of_the_stack():
    """mmengine's reverted SyncBN joins in."""
    layer = ExternalAttention2d(
        6,
        num_slots=5,
        norm_cfg=dict(type='SyncBN'),
        act_cfg=dict(type='ReLU'),
        zero_init=False,
    )
    layer = revert_sync_batchnorm(layer).double()
    plain = copy.deepcopy(layer)
    plain.form = 'plain'
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    name, reason = layer.choose_form(x)
    assert name == 'low_rank' and 'low-rank' in reason
    assert batch_norm.is_plain(layer.norm)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.norm.running_var, plain.norm.running_var)


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize(
    'order',
    [
        ('self_attn', 'norm', 'ffn', 'norm'),
        ('norm', 'self_attn', 'norm', 'ffn'),
    ],
)
def test_multihead_in_a_transformer_layer(batch_first, order):
    """Named in attn_cfgs where mmcv's own would be."""
    attn = dict(
        type='mmea.MultiheadExternalAttention',
        embed_dims=8,
        num_heads=2,
        num_slots=5,
        dropout_layer=dict(type='DropPath', drop_prob=0.0),
        init_cfg=dict(type='Constant', layer='Linear', val=0.1),
    )
    ffn = dict(type='FFN', embed_dims=8, feedforward_channels=16)
    block = BaseTransformerLayer(
        attn_cfgs=attn,
        ffn_cfgs=ffn,
        operation_order=order,
        batch_first=batch_first,
    )
    block.init_weights()
    assert block.attentions[0].in_proj.weight.eq(0.1).all()
    block.attentions[0].reset_parameters()
    assert block.attentions[0].batch_first is batch_first
    x = torch.randn(2, 7, 8) if batch_first else torch.randn(7, 2, 8)
    pos = torch.randn_like(x)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    y = block(x, query_pos=pos, query_key_padding_mask=padding)
    assert y.shape == x.shape
    y.sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    with pytest.raises(ValueError, match='takes no attn_mask'):
        block(x, attn_masks=torch.zeros(7, 7))


def test_multihead_refuses_cross_attention():
    block = BaseTransformerLayer(
        attn_cfgs=dict(
            type='mmea.MultiheadExternalAttention', embed_dims=8, num_heads=2
        ),
        ffn_cfgs=dict(type='FFN', embed_dims=8, feedforward_channels=16),
        operation_order=('cross_attn', 'norm', 'ffn', 'norm'),
    )
    x, memory = torch.randn(2, 7, 1, 8)
    with pytest.raises(ValueError, match='no cross-attention.*a key that'):
        block(x, memory, memory)


def test_causal_pair_with_a_gate_from_a_config():
    pair = MODELS.build(
        dict(
            type='mmea.CaaMPair2d',
            in_channels=8,
            gate=dict(type='mmea.EfficientAttention2d', residual=False),
        )
    )
    assert isinstance(pair.gate, layers.EfficientAttention2d)
    x = torch.randn(1, 8, 3, 5)
    torch.testing.assert_close(sum(pair(x)), x)
    causal = MODELS.build(
        dict(type='mmea.CaaMAttention', embed_dims=8, num_heads=2)
    )
    assert isinstance(causal, layers.CaaMAttention)


def test_catt_with_a_member_from_a_config():
    layer = build_attention(
        dict(
            type='mmea.CATT2d',
            dictionary_size=4,
            in_sample=dict(type='mmea.ExternalAttention2d', num_slots=3),
            norm_cfg=dict(type='BN'),
        ),
        in_channels=8,
    )
    assert isinstance(layer.in_sample, layers.ExternalAttention2d)
    assert isinstance(layer.norm, nn.BatchNorm2d)
    x = torch.randn(2, 8, 3, 5)
    assert torch.equal(layer(x), x)
    token_layer = MODELS.build(
        dict(type='mmea.CATTLayer', embed_dims=8, num_heads=2)
    )
    assert isinstance(token_layer, layers.CATTLayer)
