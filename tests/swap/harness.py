"""Models of mmseg and mmdet, their own configs made small, and hosts."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import get_object_from_string
from torch import nn

EA = dict(type='mmea.ExternalAttention2d', num_slots=4)
ANY = [dict(source='any', target=EA)]


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
    head = dict(channels=8, num_classes=3)
    head.update(changes.pop('head', {}))
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


def get_config(name: str) -> tuple[str, dict]:
    scope, cfg, _, _ = MODELS_TO_SWAP[name]
    cfg = cfg()
    init_default_scope(scope)
    return scope, cfg


class Host(nn.Module):
    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


def find_class(name: str) -> type:
    """The class of a dotted name, which must be its own."""
    pytest.importorskip(name.partition('.')[0])
    cls = get_object_from_string(name)
    assert f'{cls.__module__}.{cls.__qualname__}' == name
    return cls


def filled(layer: nn.Module) -> nn.Module:
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    layer.eval()
    return layer


def left_because(report) -> dict[str, str]:
    return {site.name: site.reason for site in report.left}
