"""The swap on models of mmseg and mmdet: their own configs, made small."""

import copy
import inspect
import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import ContextBlock, NonLocal2d
from mmcv.cnn.bricks.transformer import (
    BaseTransformerLayer,
    MultiheadAttention,
)
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import get_object_from_string
from torch import nn

from mmea import swap, test, train
from mmea.engine.checkpoint import load_checkpoint
from mmea.models import ExternalAttention2d, MultiheadExternalAttention
from mmea.models.padding_mask import note_sizes
from mmea.swap import TokenAttention, swap_attention

EA = dict(type='mmea.ExternalAttention2d', num_slots=4)
ANY = [dict(source='any', target=EA)]
BN = dict(type='BN', requires_grad=True)


def upstream(package: str, name: str) -> dict:
    """The model of a config that comes with mmseg or mmdet."""
    root = Path(pytest.importorskip(f'{package}.models').__file__).parents[1]
    path = root / '.mim/configs' / name
    if not path.is_file():
        pytest.skip(f'{package} is installed without its configs')
    cfg = Config.fromfile(path).model
    _use_bn(cfg)
    cfg.pop('pretrained', None)
    cfg.backbone.init_cfg = None
    return cfg


def _use_bn(cfg):
    if isinstance(cfg, dict):
        if cfg.get('type') == 'SyncBN':
            cfg['type'] = 'BN'
        cfg = cfg.values()
    if not isinstance(cfg, str):
        for value in cfg if hasattr(cfg, '__iter__') else ():
            _use_bn(value)


def small(cfg: dict, **changes) -> dict:
    whole = Config(dict(model=cfg))
    whole.merge_from_dict(dict(model=changes))
    return whole.model


RESNET = dict(depth=50, stem_channels=4, base_channels=4)


def seg(name: str, **changes) -> dict:
    cfg = upstream('mmseg', f'_base_/models/{name}.py')
    cfg.pop('auxiliary_head', None)
    cfg.data_preprocessor.size = (64, 64)
    head = dict(dict(channels=8, num_classes=3), **changes.pop('head', {}))
    return small(cfg, decode_head=head, **changes)


def resnet_head(name: str) -> dict:
    return seg(name, backbone=RESNET, head=dict(in_channels=128))


def swin(**kwargs) -> dict:
    return dict(
        embed_dims=8,
        depths=[1, 2, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=2,
        drop_path_rate=0.0,
        **kwargs,
    )


def det(name: str, **changes) -> dict:
    """mmdet's, with narrow heads."""
    cfg = upstream('mmdet', name)
    if 'bbox_head' in cfg.get('roi_head', {}):
        roi = cfg.roi_head
        roi.bbox_roi_extractor.out_channels = 8
        roi.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=3)
        if 'mask_head' in roi:
            roi.mask_roi_extractor.out_channels = 8
            roi.mask_head.update(
                in_channels=8, conv_out_channels=8, num_classes=3, num_convs=1
            )
        cfg.rpn_head.update(in_channels=8, feat_channels=8)
        necks = cfg.neck if isinstance(cfg.neck, list) else [cfg.neck]
        for neck in necks:
            if 'out_channels' in neck:
                neck.update(in_channels=[16, 32, 64, 128], out_channels=8)
            else:
                neck.in_channels = 8
    return small(cfg, **changes)


def detr() -> dict:
    cfg = det(
        'detr/detr_r50_8xb2-150e_coco.py',
        num_queries=5,
        backbone=RESNET,
        neck=dict(in_channels=[128], out_channels=8),
        positional_encoding=dict(num_feats=4),
        bbox_head=dict(num_classes=3, embed_dims=8),
    )
    for coder in (cfg.encoder, cfg.decoder):
        coder.num_layers = 1
        layer = coder.layer_cfg
        layer.ffn_cfg.update(embed_dims=8, feedforward_channels=8, ffn_drop=0)
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in layer:
                layer[name].update(embed_dims=8, num_heads=2, dropout=0.0)
    return cfg


PLUGIN = dict(stages=(False, True, False, False), position='after_conv3')

# Name: (scope, config, what is replaced, what is left).
MODELS_TO_SWAP = {
    'nlnet': (
        'mmseg',
        lambda: resnet_head('nonlocal_r50-d8'),
        ['decode_head.nl_block'],
        [],
    ),
    'dnlnet': (
        'mmseg',
        lambda: resnet_head('dnl_r50-d8'),
        ['decode_head.dnl_block'],
        [],
    ),
    'gcnet': (
        'mmseg',
        lambda: resnet_head('gcnet_r50-d8'),
        ['decode_head.gc_block'],
        [],
    ),
    'danet': (
        'mmseg',
        lambda: seg(
            'danet_r50-d8',
            backbone=RESNET,
            head=dict(in_channels=128, pam_channels=8),
        ),
        [],
        ['decode_head.pam', 'decode_head.cam'],
    ),
    'segformer': (
        'mmseg',
        lambda: seg(
            'segformer_mit-b0',
            backbone=dict(
                embed_dims=8,
                num_layers=[1] * 4,
                num_heads=[1, 1, 2, 2],
                drop_path_rate=0.0,
            ),
            head=dict(in_channels=[8, 8, 16, 16]),
        ),
        [f'backbone.layers.{i}.1.0.attn' for i in range(4)],
        [],
    ),
    'swin_upernet': (
        'mmseg',
        lambda: seg(
            'upernet_swin',
            backbone=swin(),
            head=dict(in_channels=[8, 16, 32, 64], pool_scales=(1, 2)),
        ),
        [
            f'backbone.stages.{i}.blocks.{j}.attn'
            for i, j in [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]
        ],
        [],
    ),
    'vit': (
        'mmseg',
        lambda: seg(
            'upernet_vit-b16_ln_mln',
            backbone=dict(
                img_size=(32, 32),
                patch_size=8,
                embed_dims=8,
                num_layers=2,
                num_heads=2,
                out_indices=(0, 0, 1, 1),
            ),
            neck=dict(in_channels=[8] * 2, out_channels=8, scales=[2, 1]),
            head=dict(in_channels=[8] * 2, in_index=[0, 1], pool_scales=(1,)),
        ),
        [f'backbone.layers.{i}.attn' for i in range(2)],
        [],
    ),
    'mask_rcnn_non_local': (
        'mmdet',
        lambda: det(
            '_base_/models/mask-rcnn_r50_fpn.py',
            backbone=dict(
                RESNET, plugins=[dict(cfg=dict(type='NonLocal2d'), **PLUGIN)]
            ),
        ),
        [f'backbone.layer2.{i}.nonlocal_block' for i in range(4)],
        [],
    ),
    'mask_rcnn_gcnet': (
        'mmdet',
        lambda: det(
            'gcnet/mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco.py', backbone=RESNET
        ),
        [
            f'backbone.layer{i}.{j}.context_block'
            for i, depth in [(2, 4), (3, 6), (4, 3)]
            for j in range(depth)
        ],
        [],
    ),
    'libra_rcnn': (
        'mmdet',
        lambda: det(
            'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py', backbone=RESNET
        ),
        ['neck.1.refine'],
        [],
    ),
    'mask_rcnn_swin': (
        'mmdet',
        lambda: det(
            'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
            backbone=swin(convert_weights=False),
            neck=dict(in_channels=[8, 16, 32, 64]),
        ),
        [
            f'backbone.stages.{i}.blocks.{j}.attn'
            for i, j in [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]
        ],
        [],
    ),
    'detr': (
        'mmdet',
        detr,
        ['encoder.layers.0.self_attn'],
        ['decoder.layers.0.self_attn', 'decoder.layers.0.cross_attn'],
    ),
}


@pytest.fixture(autouse=True)
def no_scope():
    yield
    DefaultScope._instance_dict.clear()


def get_config(name: str) -> tuple[str, dict]:
    scope, cfg, _, _ = MODELS_TO_SWAP[name]
    cfg = cfg()
    init_default_scope(scope)
    return scope, cfg


def get_batch(scope: str) -> dict:
    """Two images, for mmdet of different sizes, so that one is padded."""
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        batch = demo_mm_inputs(
            2, [[3, 64, 64], [3, 50, 64]], num_classes=3, with_mask=True
        )
    else:
        from mmseg.structures import SegDataSample

        labels = torch.zeros(1, 64, 64, dtype=torch.long)
        labels[:, 32:] = 1
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
        batch = dict(inputs=list(images), data_samples=[sample] * 2)
    return batch


def losses(model, batch) -> torch.Tensor:
    batch = model.data_preprocessor(copy.deepcopy(batch), True)
    parsed = model.parse_losses(model(**batch, mode='loss'))
    return parsed[0]


def outputs(model, batch) -> list[torch.Tensor]:
    """Of the parts in which the attention is."""
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    with torch.no_grad():
        if hasattr(model, 'forward_transformer'):
            features = model.extract_feat(data['inputs'])
            return list(
                model.forward_transformer(features, data['data_samples'])[
                    'hidden_states'
                ]
            )
        if hasattr(model, 'encode_decode'):
            return [model(data['inputs'], mode='tensor')]
        return list(model.extract_feat(data['inputs']))


@pytest.mark.parametrize('name', MODELS_TO_SWAP)
def test_models(name):
    """What is replaced; a training step; state_dict; from a config."""
    torch.manual_seed(0)
    scope, cfg = get_config(name)
    model = MODELS.build(copy.deepcopy(cfg))
    want, left = MODELS_TO_SWAP[name][2:]
    old = {path: model.get_submodule(path) for path in want}
    before = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report = swap_attention(model, ANY, input_size=(64, 64))
    assert [site.name for site in report.replaced] == want
    assert [site.name for site in report.left] == left
    assert all(site.reason for site in report.left)
    assert report.unused == ([] if want else ['any'])
    after = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.params == (before, after)
    assert min(report.macs) > 0
    assert (report.macs[0] != report.macs[1]) == bool(want)
    for line in (*want, *left, f'{before:,} -> {after:,}'):
        assert line in str(report)
    if not want:
        return

    new = {path: model.get_submodule(path) for path in want}
    for path, module in new.items():
        assert module is not old[path]
        assert isinstance(module, (ExternalAttention2d, TokenAttention))
    model.init_weights()
    # The host's own initialisation has not had the last word.
    for module in new.values():
        layer = getattr(module, 'attention', module)
        assert not layer.out_proj.weight.any()
        nn.init.normal_(layer.out_proj.weight)  # zeros would hide gradients
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # ResNet ends its blocks by zeros
    model.train()
    batch = get_batch(scope)
    losses(model, batch).backward()
    for path, module in new.items():
        for key, param in module.named_parameters():
            assert param.grad is not None, (path, key)
            # The softmax over tokens ignores this one.
            if not key.endswith('in_proj.bias') and param.requires_grad:
                assert param.grad.abs().sum() > 0, (path, key)

    # The same from a config, as the Runner would build it, and the weights.
    wrapped = MODELS.build(
        dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
    )
    assert type(wrapped) is type(model)
    wrapped.load_state_dict(model.state_dict())
    pairs = zip(outputs(model, batch), outputs(wrapped, batch))
    for a, b in pairs:
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', [n for n in MODELS_TO_SWAP if n != 'danet'])
def test_starts_with_no_attention(name):
    """As the host when its attention returns nothing but its residual."""
    scope, cfg = get_config(name)
    model = MODELS.build(cfg)
    batch = get_batch(scope)
    swapped = copy.deepcopy(model)
    swap_attention(swapped, ANY)
    for path in MODELS_TO_SWAP[name][2]:
        module = model.get_submodule(path)
        if isinstance(module, (NonLocal2d, ContextBlock)):
            module.forward = lambda x: x
        elif hasattr(module, 'w_msa'):
            nn.init.zeros_(module.w_msa.proj.weight)
            nn.init.zeros_(module.w_msa.proj.bias)
        else:
            nn.init.zeros_(module.attn.out_proj.weight)
            nn.init.zeros_(module.attn.out_proj.bias)
    for a, b in zip(outputs(model, batch), outputs(swapped, batch)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    'name', ['segformer', 'swin_upernet', 'vit', 'mask_rcnn_swin', 'detr']
)
def test_token_member(name):
    """MultiheadExternalAttention, with the heads of what it replaces."""
    scope, cfg = get_config(name)
    model = MODELS.build(cfg)
    old = model.get_submodule(MODELS_TO_SWAP[name][2][-1])
    heads = getattr(old, 'w_msa', old).num_heads
    target = dict(type='mmea.MultiheadExternalAttention', num_slots=4)
    report = swap_attention(model, [dict(source='any', target=target)])
    assert [s.name for s in report.replaced] == MODELS_TO_SWAP[name][2]
    assert report.replaced[0].target == 'MultiheadExternalAttention'
    model.init_weights()
    model.train()
    losses(model, get_batch(scope)).backward()
    for path in MODELS_TO_SWAP[name][2]:
        layer = model.get_submodule(path).attention
        for key, param in layer.named_parameters():
            assert param.grad is not None, (path, key)
        assert layer.out_proj.weight.grad.abs().sum() > 0
    assert layer.num_heads == heads > 1


def filled(layer: nn.Module) -> nn.Module:
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    layer.eval()
    return layer


class Host(nn.Module):
    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class TestSignatures:
    """Each adapter against the bare member on the same tokens."""

    x = torch.randn(2, 6, 8)  # (B, N, C)

    def swap(self, **children) -> nn.Module:
        host = Host(**children)
        report = swap_attention(host, ANY)
        assert len(report.replaced) == 1, report
        return filled(host)

    def bare(self, layer: nn.Module, x, hw=(6, 1), mask=None):
        maps = x.mT.unflatten(2, hw)
        mask = None if mask is None else mask.unflatten(1, hw)
        return layer.attention(maps, mask).flatten(2).mT

    @pytest.mark.parametrize('batch_first', [True, False])
    def test_mmcv(self, batch_first):
        layer = self.swap(
            self_attn=MultiheadAttention(8, 2, batch_first=batch_first)
        ).self_attn

        def turn(x):
            return x if batch_first else x.transpose(0, 1)

        x, pos, identity = self.x, torch.randn(2, 6, 8), torch.randn(2, 6, 8)
        query = turn(x)
        want = self.bare(layer, x)
        torch.testing.assert_close(turn(layer(query)), x + want)
        out = layer(query, query, query, identity=turn(identity))
        torch.testing.assert_close(turn(out), identity + want)
        out = layer(query, residual=turn(identity))
        torch.testing.assert_close(turn(out), identity + want)
        places = turn(pos)
        out = layer(query, query_pos=places, key_pos=places)
        want = x + self.bare(layer, x + pos)
        torch.testing.assert_close(turn(out), want)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        want = x + self.bare(layer, x, mask=~padded)
        minus = torch.zeros(2, 6).masked_fill(padded, -torch.inf)
        for mask in (padded, padded.byte(), minus):
            out = layer(query, key_padding_mask=mask)
            torch.testing.assert_close(turn(out), want)
        # What is padded counts for nothing.
        other = x.clone()
        other[1, 4:] = 9
        out = turn(layer(turn(other), key_padding_mask=padded))
        torch.testing.assert_close(out[1, :4], want[1, :4])

    @pytest.mark.parametrize(
        'target',
        [
            EA,
            dict(type='mmea.CATT2d', in_sample=dict(type='mmea.NonLocal2d')),
        ],
    )
    def test_tokens_are_no_map_of_the_batch(self, target):
        """Its padding is not that of, say, proposals."""
        host = Host(self_attn=MultiheadAttention(8, 2, batch_first=True))
        swap_attention(host, [dict(source='any', target=target)])
        layer = filled(host).self_attn
        want = layer(self.x)
        batch = torch.zeros(2, 3, 64, 64)
        note_sizes(batch, [(64, 64), (32, 64)])
        torch.testing.assert_close(layer(self.x), want)

    def test_mmcv_drops_as_the_host(self):
        drop = dict(type='Dropout', drop_prob=0.5)
        old = MultiheadAttention(8, 2, proj_drop=0.25, dropout_layer=drop)
        layer = self.swap(self_attn=old).self_attn
        assert layer.proj_drop.p == 0.25
        assert layer.dropout_layer.p == 0.5
        assert layer.embed_dims == 8
        layer.train()
        assert not torch.equal(layer(self.x), layer(self.x))

    def test_refuses_what_it_was_not_swapped_for(self):
        layer = self.swap(self_attn=MultiheadAttention(8, 2)).self_attn
        with pytest.raises(ValueError, match='other keys or values'):
            layer(self.x, self.x + 1)
        with pytest.raises(ValueError, match='other positions of them'):
            layer(self.x, key_pos=self.x)
        with pytest.raises(ValueError, match='pairwise mask'):
            layer(self.x, attn_mask=torch.zeros(6, 6))
        layer = self.swap(self_attn=nn.MultiheadAttention(8, 2)).self_attn
        with pytest.raises(ValueError, match='keys of another shape'):
            layer(self.x, self.x[:1], self.x[:1])
        with pytest.raises(ValueError, match='pairwise mask'):
            layer(self.x, self.x, self.x, attn_mask=torch.zeros(6, 6))

    def test_token_member(self):
        """The same as that member by itself."""
        target = dict(type='mmea.MultiheadExternalAttention', num_slots=4)
        mit = pytest.importorskip('mmseg.models.backbones.mit')
        host = Host(
            map=NonLocal2d(8),
            attn=mit.EfficientMultiheadAttention(8, 2),
            self_attn=MultiheadAttention(8, 4),
        )
        rules = [dict(source='any', target=dict(target, num_heads=2))]
        report = swap_attention(host, rules)
        assert 'is for tokens' in left_because(report)['map']
        filled(host)
        assert host.self_attn.attention.num_heads == 2
        want = host.attn.attention(self.x)
        torch.testing.assert_close(host.attn(self.x, (2, 3)), want)
        x, pos = self.x.transpose(0, 1), torch.randn(6, 2, 8)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        want = host.self_attn.attention(
            self.x, query_pos=pos.transpose(0, 1), key_padding_mask=padded
        )
        out = host.self_attn(x, query_pos=pos, key_padding_mask=padded)
        torch.testing.assert_close(out.transpose(0, 1), want)

    @pytest.mark.parametrize('batch_first', [True, False])
    def test_torch(self, batch_first):
        old = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=batch_first)
        host = self.swap(**dict(old.named_children()))
        for name, child in host.named_children():
            setattr(old, name, child)
        old.eval()
        x = self.x if batch_first else self.x.transpose(0, 1)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        attn = self.bare(old.self_attn, self.x, mask=~padded)
        y = old.norm1(self.x + attn)
        y = old.norm2(y + old.linear2(old.linear1(y).relu()))
        out = old(x, src_key_padding_mask=padded)
        out = out if batch_first else out.transpose(0, 1)
        torch.testing.assert_close(out, y)
        out, weights = old.self_attn(x, x, x, need_weights=True)
        assert weights is None
        assert out.shape == x.shape

    def test_efficient(self):
        mit = pytest.importorskip('mmseg.models.backbones.mit')
        old = mit.EfficientMultiheadAttention(8, 2, sr_ratio=2)
        layer = self.swap(attn=old).attn
        want = self.bare(layer, self.x, (2, 3))
        torch.testing.assert_close(layer(self.x, (2, 3)), self.x + want)
        out = layer(self.x, (2, 3), identity=self.x * 2)
        torch.testing.assert_close(out, self.x * 2 + want)

    def test_spatial_reduction(self):
        pvt = pytest.importorskip('mmdet.models.backbones.pvt')
        old = pvt.SpatialReductionAttention(8, 2, sr_ratio=2)
        layer = self.swap(attn=old).attn
        want = self.x + self.bare(layer, self.x, (2, 3))
        torch.testing.assert_close(layer(self.x, (2, 3)), want)

    def test_swin(self):
        swin = pytest.importorskip('mmseg.models.backbones.swin')
        old = swin.ShiftWindowMSA(8, 2, 2, shift_size=1)
        layer = self.swap(attn=old).attn
        want = self.bare(layer, self.x, (2, 3))  # no residual: its host adds
        torch.testing.assert_close(layer(self.x, hw_shape=(2, 3)), want)

    def test_pvt(self):
        pvt = pytest.importorskip('mmdet.models.backbones.pvt')
        model = pvt.PyramidVisionTransformer(
            pretrain_img_size=32,
            embed_dims=8,
            num_stages=2,
            num_layers=[1, 1],
            num_heads=[1, 2],
            patch_sizes=[4, 2],
            strides=[4, 2],
            sr_ratios=[2, 1],
            mlp_ratios=[2, 2],
            out_indices=(0, 1),
        )
        report = swap_attention(model, ANY)
        assert [s.name for s in report.replaced] == [
            'layers.0.1.1.attn',
            'layers.1.1.1.attn',
        ]
        outs = model(torch.randn(1, 3, 32, 32))
        assert [out.shape[2] for out in outs] == [8, 4]


def left_because(report) -> dict[str, str]:
    return {site.name: site.reason for site in report.left}


def test_known_classes_exist():
    """A class that moved would never match."""
    names = [name for names in swap.SOURCES.values() for name in names]
    names += [name for name, _ in swap._SELF + swap._MASKED]
    for name in names:
        pytest.importorskip(f'{name.partition(".")[0]}')
        cls = get_object_from_string(name)
        assert f'{cls.__module__}.{cls.__qualname__}' == name
    attr = inspect.getsource(cls)  # the last: Grounding DINO's encoder
    assert 'self.text_layers =' in attr


class TestRules:
    def test_outermost_match(self):
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

    def test_isinstance(self):
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

    def test_another_signature_is_left(self):
        class Odd(MultiheadAttention):
            def forward(self, query, memory):
                return query

        host = Host(self_attn=Odd(8, 2))
        report = swap_attention(host, ANY)
        assert 'query, memory' in left_because(report)['self_attn']

    def test_where_and_unused(self):
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

    def test_shared_module(self):
        block = NonLocal2d(8)
        host = Host(a=block, b=nn.Sequential(block))
        report = swap_attention(host, ANY)
        assert host.a is host.b[0]
        assert isinstance(host.a, ExternalAttention2d)
        assert [s.name for s in report.replaced] == ['a']

    def test_frozen(self):
        host = Host(a=NonLocal2d(8).requires_grad_(False).eval())
        report = swap_attention(host, ANY)
        assert not any(p.requires_grad for p in host.a.parameters())
        assert not host.a.training
        assert 'frozen' in str(report)

    def test_dtype(self):
        host = Host(a=NonLocal2d(8).double())
        swap_attention(host, ANY)
        assert host.a.key_memory.dtype == torch.float64

    def test_cross_attention_and_masks(self):
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

    def test_hosts_that_mask(self):
        clip = pytest.importorskip('mmseg.models.text_encoder')
        model = clip.CLIPTextEncoder.__new__(clip.CLIPTextEncoder)
        nn.Module.__init__(model)
        model.layer = Host(self_attn=MultiheadAttention(8, 2))
        report = swap_attention(model, ANY)
        assert 'pairwise mask' in left_because(report)['layer.self_attn']

    def test_part_of_a_host_that_masks(self):
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

    def test_counting_leaves_the_modes(self):
        """Of a model in training with a frozen norm."""
        model = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), Host(a=NonLocal2d(8))
        )
        model[2].forward = lambda x: model[2].a(x)
        model[1].eval()
        before = model[1].running_mean.clone()
        report = swap_attention(model, ANY, input_size=(4, 6))
        assert all(macs > 0 for macs in report.macs)
        assert [module.training for module in model] == [True, False, True]
        assert model.training and model[2].a.training
        assert torch.equal(model[1].running_mean, before)

    def test_attention_by_another_name(self):
        heads = pytest.importorskip('mmseg.models.decode_heads')
        for kind in ('EMAHead', 'PSAHead'):
            head = getattr(heads, kind)
            args = dict(in_channels=4, channels=4, num_classes=2)
            if kind == 'EMAHead':
                args.update(ema_channels=4, num_bases=2, num_stages=1)
            else:
                args.update(mask_size=(3, 3))
            host = Host(head=head(**args))
            report = swap_attention(host, ANY)
            assert 'no known source' in str(report), kind

    def test_fused_encoder_of_torch(self):
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        model = nn.TransformerEncoder(layer, 1)
        report = swap_attention(model, ANY)
        assert 'enable_nested_tensor=False' in str(report)
        model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        report = swap_attention(model, ANY)
        assert [s.name for s in report.replaced] == ['layers.0.self_attn']
        model.eval()(torch.randn(2, 6, 8))

    @pytest.mark.parametrize(
        'target',
        [
            dict(type='mmea.NonLocal2d', sub_sample=True),
            dict(type='mmea.StandAloneAttention2d'),
            dict(type='mmea.HaloAttention2d'),
            dict(type='mmea.ELSA2d'),
            dict(
                type='mmea.CBAMGate2d', norm_cfg=dict(type='GN', num_groups=2)
            ),
        ],
        ids=lambda target: target['type'],
    )
    def test_local_target(self, target):
        """What depends on the map needs tokens with height and width."""
        mit = pytest.importorskip('mmseg.models.backbones.mit')
        host = Host(
            map=NonLocal2d(8),
            attn=mit.EfficientMultiheadAttention(8, 2),
            self_attn=MultiheadAttention(8, 2),
        )
        report = swap_attention(host, [dict(source='any', target=target)])
        x = torch.randn(2, 6, 8)
        torch.testing.assert_close(host.attn(x, (2, 3)), x)  # starts at zero
        x = x.mT.unflatten(2, (2, 3))
        torch.testing.assert_close(host.map(x), x)
        assert [s.name for s in report.replaced] == ['map', 'attn']
        assert 'height and width' in left_because(report)['self_attn']

    @pytest.mark.parametrize(
        'kind',
        [
            'CATT2d',
            'EfficientAttention2d',
            'LinearAttention2d',
            'NonLocal2d',
            'SelfAttention2d',
        ],
    )
    def test_every_member(self, kind):
        wide = Host(self_attn=MultiheadAttention(768, 2))
        target = dict(type=f'mmea.{kind}')
        report = swap_attention(wide, [dict(source='any', target=target)])
        assert len(report.replaced) == 1
        attn = MultiheadAttention(8, 2, batch_first=True)
        host = Host(a=NonLocal2d(8), self_attn=attn)
        target = dict(type=f'mmea.{kind}')
        report = swap_attention(host, [dict(source='any', target=target)])
        assert len(report.replaced) == 2
        x = torch.randn(2, 6, 8)
        torch.testing.assert_close(host.self_attn(x), x)  # starts at zero
        filled(host.self_attn)
        mask = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
        assert not torch.equal(host.self_attn(x, key_padding_mask=mask), x)

    def test_target_without_masks(self, monkeypatch):
        monkeypatch.setattr(ExternalAttention2d, 'supports_mask', False)
        layer = nn.TransformerEncoderLayer(8, 2, 8)
        report = swap_attention(layer, ANY)
        assert 'takes no padding mask' in left_because(report)['self_attn']
        host = Host(self_attn=MultiheadAttention(8, 2))
        assert swap_attention(host, ANY).replaced

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
    def test_bad_rules(self, rule, match):
        block = NonLocal2d(8)
        host = Host(b=block)
        with pytest.raises((ValueError, TypeError), match=match):
            swap_attention(host, [rule])
        assert host.b is block

    def test_target_by_its_class(self):
        host = Host(map=NonLocal2d(8), self_attn=MultiheadAttention(8, 2))
        target = dict(type=MultiheadExternalAttention)
        report = swap_attention(host, [dict(source='any', target=target)])
        assert [s.name for s in report.replaced] == ['self_attn']
        assert 'is for tokens' in left_because(report)['map']

    def test_the_model_itself(self):
        report = swap_attention(NonLocal2d(8), ANY)
        assert 'the model itself' in str(report)


class TestConfig:
    def test_further_keys(self):
        _, cfg = get_config('nlnet')
        other = dict(type='SegDataPreProcessor', size=(8, 8))
        model = MODELS.build(
            dict(
                type='mmea.SwapAttention',
                model=cfg,
                rules=ANY,
                data_preprocessor=other,  # the Runner's default
                decode_head=dict(num_classes=5),
                train_cfg=None,
            )
        )
        assert model.decode_head.num_classes == 5
        assert model.data_preprocessor.size == (64, 64)
        assert model.train_cfg is None
        del cfg['data_preprocessor']
        model = MODELS.build(
            dict(
                type='mmea.SwapAttention',
                model=cfg,
                rules=ANY,
                data_preprocessor=other,
            )
        )
        assert model.data_preprocessor.size == (8, 8)

    def test_nothing_to_do(self):
        _, cfg = get_config('danet')
        with pytest.raises(ValueError, match='nothing was swapped') as error:
            MODELS.build(dict(type='mmea.SwapAttention', model=cfg, rules=ANY))
        assert 'decode_head.pam' in str(error.value)

    def test_two_swaps(self):
        _, cfg = get_config('segformer')
        model = MODELS.build(cfg)
        for where in ('backbone.layers.0.*', 'backbone.layers.1.*'):
            swap_attention(model, [dict(ANY[0], where=where)])
        model.init_weights()
        for i in range(2):
            layer = model.backbone.layers[i][1][0].attn.attention
            assert not layer.out_proj.weight.any()

    def test_copies(self):
        """What an EMA hook, and saving a whole model, need."""
        _, cfg = get_config('vit')
        model = MODELS.build(
            dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
        )
        for other in (
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
        ):
            other.init_weights()
            layer = other.backbone.layers[0].attn.attention
            assert not layer.out_proj.weight.any()
            # Its own, not those of the original.
            assert not model.backbone.is_init

    def test_second_init_does_nothing(self):
        """As without the swap: what was trained meanwhile stays."""
        _, cfg = get_config('nlnet')
        model = MODELS.build(
            dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
        )
        model.init_weights()
        memory = model.decode_head.nl_block.key_memory
        nn.init.constant_(memory, 0.5)
        model.init_weights()
        assert memory.eq(0.5).all()

    def test_weights_of_what_was_replaced(self):
        """They do not fit, so the host's Xavier has the last word but one."""

        class Model(Host):
            def init_weights(self):
                self.load_state_dict(state, strict=False)
                for param in self.parameters():
                    nn.init.uniform_(param)

        model = Model(self_attn=MultiheadAttention(8, 2))
        state = model.state_dict()
        swap_attention(model, ANY)
        model.init_weights()
        assert not model.self_attn.attention.out_proj.weight.any()

    def test_pretrained_swin(self, tmp_path):
        """Its own weights load around what was swapped."""
        _, cfg = get_config('mask_rcnn_swin')
        model = filled(MODELS.build(copy.deepcopy(cfg)).backbone)
        path = str(tmp_path / 'swin.pth')
        # The key that the classification package saves a backbone under.
        state = {f'backbone.{k}': v for k, v in model.state_dict().items()}
        torch.save(dict(state_dict=state), path)
        cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
        swapped = MODELS.build(
            dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
        )
        swapped.init_weights()
        state = swapped.backbone.state_dict()
        assert not any('bias_table' in name for name in state)
        for name, value in model.state_dict().items():
            if '.attn.' not in name:
                torch.testing.assert_close(state[name], value, msg=name)
        attn = swapped.backbone.stages[0].blocks[0].attn
        assert not attn.attention.out_proj.weight.any()

    def test_pretrained_weights_stay(self, tmp_path):
        """init_weights() loads a checkpoint of the swapped model."""
        _, cfg = get_config('nlnet')
        swapped = dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
        model = filled(MODELS.build(swapped))
        path = str(tmp_path / 'x.pth')
        torch.save(dict(state_dict=model.state_dict()), path)
        init_cfg = dict(type='Pretrained', checkpoint=path)
        other = MODELS.build(dict(swapped, init_cfg=init_cfg))
        other.init_weights()
        for (name, a), b in zip(
            model.state_dict().items(), other.state_dict().values()
        ):
            torch.testing.assert_close(a, b, msg=name)


RULES = """
rules = [dict(source='any', target=dict(type='mmea.ExternalAttention2d',
                                        num_slots=4))]
"""


def write_config(path: str, base: str, model: str, nested: bool):
    text = f"_base_ = './{base}'\n"
    if nested:
        text += f'{RULES}\nmodel = dict(_delete_=True, rules=rules,\n'
        text += f"    type='mmea.SwapAttention', model={model})\n"
    else:
        text += f'model = dict(_delete_=True, **{model})\n'
    Path(path).write_text(text)


def plain(cfg) -> str:
    return repr(Config(dict(model=cfg)).to_dict()['model'])


@pytest.fixture
def nonlocal_project(project, run):
    """The tiny project with NLNet, swapped in the config and not."""
    _, cfg = get_config('nlnet')
    cfg = small(
        cfg, data_preprocessor=dict(size=(32, 48)), test_cfg=dict(mode='whole')
    )
    cfg.decode_head.update(num_classes=150, dropout_ratio=0)
    swapped = dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
    for name, model in [('swapped.py', swapped), ('nl.py', cfg)]:
        model = Config(dict(model=model)).to_dict()['model']
        Path(name).write_text(
            f"_base_ = './tiny.py'\nmodel = dict(_delete_=True, **{model!r})\n"
        )
    return partial(run, train.main)


def weights(path) -> dict:
    return load_checkpoint(path, 'cpu')['state_dict']


def test_train_resume_test_and_inference(nonlocal_project, run):
    from mmseg.apis import inference_model, init_model

    nonlocal_project('swapped.py', '--work-dir', 'work')
    want = weights('work/iter_4.pth')
    memory = 'decode_head.nl_block.key_memory'
    assert want[memory].shape == (4, 8)
    (log,) = Path('work').rglob('*.log')
    assert 'decode_head.nl_block (NonLocal2d) ->' in log.read_text()
    nonlocal_project(
        'swapped.py', '--work-dir', 'again', '--resume', 'work/iter_2.pth'
    )
    for name, value in weights('again/iter_4.pth').items():
        torch.testing.assert_close(value, want[name], msg=name)
    run(test.main, 'swapped.py', 'work/iter_4.pth', '--work-dir', 'test')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    model = init_model(
        'swapped.py',
        'work/iter_4.pth',
        device='cpu',
        cfg_options=dict(test_pipeline=pipeline),
    )
    torch.testing.assert_close(model.state_dict()[memory], want[memory])
    image = np.zeros((32, 48, 3), np.uint8)
    result = inference_model(model, image)
    assert result.pred_sem_seg.data.shape == (1, 32, 48)


def test_two_processes(nonlocal_project, run_apart):
    """DDP finds a gradient for every parameter."""
    swap = ('--swap-attention', 'mmea.ExternalAttention2d')
    args = ('nl.py', '--launcher', 'pytorch', '--work-dir', 'work', *swap)
    assert run_apart(train.main, *args, number=2) == [0, 0]
    state = weights('work/iter_4.pth')
    assert 'decode_head.nl_block.key_memory' in state


def test_command_line(nonlocal_project, run):
    swap = ('--swap-attention', 'mmea.ExternalAttention2d', '--cfg-options')
    slots = 'model.rules.0.target.num_slots=3'
    dropout = 'model.decode_head.dropout_ratio=0.1'  # of the inner model
    nonlocal_project(
        'nl.py', *swap, slots, dropout, 'model.input_size=(32,48)'
    )
    work = Path('work_dirs/nl_ExternalAttention2d')
    (log,) = work.rglob('*.log')
    assert re.search(
        r'Multiply-accumulates: [\d,]+ -> [\d,]+', log.read_text()
    )
    cfg = Config.fromfile(work / 'nl.py')
    assert cfg.model.decode_head.dropout_ratio == 0.1
    state = weights(work / 'iter_4.pth')
    assert state['decode_head.nl_block.key_memory'].shape == (3, 8)
    # What it wrote is a config like any other.
    run(test.main, work / 'nl.py', work / 'iter_4.pth', '--work-dir', 'test')
    run(test.main, 'nl.py', *swap, slots)
    with pytest.raises(SystemExit, match='swaps the attention itself'):
        nonlocal_project('swapped.py', *swap, slots)
    with pytest.raises(SystemExit, match='ExternalAtention2d.*did you mean'):
        nonlocal_project('nl.py', *swap[:1], 'mmea.ExternalAtention2d')
    with pytest.raises(SystemExit, match='nothing was swapped'):
        nonlocal_project('tiny.py', *swap[:2])
