"""What holds for every shipped config, and for every demo."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS, METRICS, DefaultScope
from torch import nn

import mmea
from mmea.models import build_attention
from mmea.models import registered_layers as registered

from .harness import cases, leaves, length, load, parts, with_demo

ROOT = Path(__file__).resolve().parents[2] / 'configs'
ALL = mmea.list_configs()
DEMOS = with_demo(ALL)
# Those of GANs are in test_sagan.py: of other classes, and another metric.
OF_THE_STACK = [name for name in DEMOS if not name.startswith('sagan/')]
# The attention of the others works on points.
ON_MAPS = [name for name in ALL if not name.startswith('pct/')]
DEMOS_ON_MAPS = [name for name in DEMOS if name in ON_MAPS]
FAMILIES = [
    'bccd',
    'caam',
    'camvid',
    'cascade_rcnn',
    'ccp',
    'classification',
    'eamlp',
    'eanet',
    'elsa_swin',
    'faster_rcnn',
    'halonet',
    'mask_rcnn',
    'mobilenet_v2',
    'nwpu',
    'pct',
    'psmnet',
    'retinanet',
    'sagan',
    'stand_alone',
    'volo',
]
# Small enough as they are, or of images alone: these have no demo.
WITHOUT_DEMO = (
    *('bccd/', 'camvid/', 'ccp/', 'nwpu/'),
    *('pct/pct_1xb16-500i', 'pct/eat_1xb16-500i'),
)
# What their leaves with an option `attention` start with.
SYSTEMS = {
    'eagan_': 'SAGANExternalAttention2d',
    'ea_': 'ExternalAttention2d',
    'ea-head_': 'ExternalAttention2d',
    'ea-neck': 'ExternalAttention2d',
    'elsa-volo-': 'ELSA2d',
    'eanet_': 'ExternalAttention2d',
    'efficient-': 'EfficientAttention2d',
    'external-': 'ExternalAttention2d',
    'nl_': 'NonLocal2d',
    'sagan_': 'SAGANAttention2d',
    'stand-alone_': 'StandAloneAttention2d',
    'volo-': 'OutlookAttention2d',
}
# By scope: the hooks and the metric of a demo, or that of each layout.
SHOWN = {
    'mmseg': (
        ['mmea.SegLabelCheckHook', 'mmea.SegPictureHook'],
        'mmea.PresentClassIoUMetric',
    ),
    'mmdet': (['mmea.DetPictureHook'], 'mmea.PresentClassCocoMetric'),
    'mmpretrain': (['mmea.ClsPictureHook'], 'Accuracy'),
    'mmengine': {},
}
#: Of those on mmengine alone, by the layout of their scenes.
SHOWN_BY_LAYOUT = {
    'modelnet': (['mmea.CloudPictureHook'], 'mmea.PointAccuracyMetric'),
    'shapenetpart': (['mmea.CloudPictureHook'], 'mmea.PartIoUMetric'),
    'sceneflow': (
        ['mmea.FirstValidationHook', 'mmea.DisparityPictureHook'],
        'mmea.EndPointError',
    ),
}


def attentions(node):
    """Every value of a key ``attention`` in a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'attention':
                # None is a head whose neck has it.
                yield from [] if value is None else [value]
            else:
                yield from attentions(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from attentions(value)


def test_families_are_found():
    assert {*FAMILIES, ''} == {n.rpartition('/')[0] for n in ALL}
    assert {n for n in ALL if n not in DEMOS} == {
        n for n in ALL if n.startswith(WITHOUT_DEMO) or 'misleading' in n
    }
    assert sorted(sum(map(leaves, SHOWN), [])) == ALL


@pytest.mark.parametrize('name', ALL)
def test_bases_are_ours(name):
    text = (ROOT / name).read_text(encoding='utf-8')
    bases = re.search(r'^_base_ = (\[.*?\]|\S+)', text, re.S | re.M)
    paths = re.findall(r"'([^']+)'", bases.group(1))
    assert paths
    for path in paths:
        base = ((ROOT / name).parent / path).resolve()
        assert base.is_relative_to(ROOT / '_base_'), path


@cases(ON_MAPS, DEMOS_ON_MAPS)
def test_attention_takes_any_system(args):
    cfg = load(*args)
    assert '_delete_' not in cfg.pretty_text
    found = list(attentions(cfg.model.to_dict()))
    leaf = args[0].rpartition('/')[2]
    # One, but in both networks of a GAN.
    number = 2 if leaf.startswith(('eagan_', 'sagan_')) else 1
    assert len(found) == number * leaf.startswith(tuple(SYSTEMS))
    kind = next((k for s, k in SYSTEMS.items() if leaf.startswith(s)), '')
    for attention in found:
        assert attention['type'] == f'mmea.{kind}'
        assert set(attention) <= {
            'type',
            'norm_cfg',
            'act_cfg',
            'zero_init',
            'with_cp',
        }


def test_every_member_fits_every_attention():
    """What ``--cfg-options ...attention.type=`` leaves in place."""
    shipped = {
        json.dumps(attention, sort_keys=True): attention
        for args in [
            *((n,) for n in ON_MAPS),
            *((n, '--demo') for n in DEMOS_ON_MAPS),
        ]
        for attention in attentions(load(*args).model.to_dict())
    }
    assert len(shipped) >= 4
    members = [
        name
        for name in registered.__all__
        if hasattr(getattr(registered, name), 'attend')
    ]
    keys = set()
    x = torch.randn(2, 8, 5, 3, requires_grad=True)
    for attention in shipped.values():
        keys |= set(attention)
        for name in members:
            layer = build_attention(dict(attention, type=f'mmea.{name}'), 8)
            for key, type_ in (('norm_cfg', nn.Module), ('act_cfg', nn.ReLU)):
                part = getattr(layer, key.removesuffix('_cfg'))
                assert isinstance(part, type_) == (key in attention)
            layer = revert_sync_batchnorm(layer)
            assert layer(x).shape == x.shape
    assert {'type', 'norm_cfg', 'act_cfg', 'zero_init'} <= keys


@pytest.mark.parametrize('family', FAMILIES)
def test_metafile_and_readme_name_every_config(family):
    meta = yaml.safe_load((ROOT / family / 'metafile.yml').read_text())
    readme = (ROOT / family / 'README.md').read_text(encoding='utf-8')
    names = [n for n in ALL if n.startswith(f'{family}/')]
    assert sorted(m['Config'] for m in meta['Models']) == [
        f'configs/{n}' for n in names
    ]
    rows = {
        row.split('](')[1].split(')')[0]: row
        for row in readme.splitlines()
        if row.startswith('| [')
    }
    for model in meta['Models']:
        assert model['Name'] == Path(model['Config']).stem
        # Nothing here has been trained.
        assert 'Results' not in model and 'Weights' not in model
        row = rows[f'{model["Name"]}.py']
        assert all(cell.strip() for cell in row.split('|')[1:-1])
        if 'Reported' in model:
            for value in model['Reported']['Metrics'].values():
                assert f'| {value}* |' in row
            assert model['Reported']['Dataset'] in row
            assert model['Reported']['Verified'] is False
        else:
            assert '*' not in row


class TestDemo:
    @pytest.mark.parametrize('name', OF_THE_STACK)
    def test_is_short_and_needs_no_network(self, name):
        cfg = load(name, '--demo')
        assert 'http' not in cfg.pretty_text
        assert cfg.train_cfg.val_interval == length(cfg)
        assert cfg.param_scheduler[-1].end == length(cfg)

    @pytest.mark.parametrize('name', OF_THE_STACK)
    def test_keeps_the_classes_and_the_net(self, name):
        real, demo = load(name), load(name, '--demo')
        kept = ('type', 'num_classes', 'after', 'share')
        nets = [
            {
                path: {key: part.get(key) for key in kept}
                for path, part in parts(cfg.model).items()
            }
            for cfg in (real, demo)
        ]
        assert nets[0] == nets[1]
        layout = demo.demo_scenes.layout
        for split in ('train', 'val', 'test'):
            a, b = (cfg[f'{split}_dataloader'].dataset for cfg in (real, demo))
            a = a.get('datasets', [a])[0]  # a demo has the first of two
            for key in ('type', 'ann_file', 'data_prefix', 'split'):
                assert a.get(key) == b.get(key)
            assert b.data_root.rstrip('/') == f'data/demo/{layout}'
        assert set(demo.demo_scenes) == {
            'layout',
            'num_train',
            'num_val',
            'size',
            'seed',
        }

    @pytest.mark.parametrize('name', OF_THE_STACK)
    def test_hooks_and_metric(self, name):
        cfg = load(name, '--demo')
        pytest.importorskip(cfg.default_scope)
        shown = SHOWN[cfg.default_scope]
        hooks, metric = shown or SHOWN_BY_LAYOUT[cfg.demo_scenes.layout]
        assert [hook['type'] for hook in cfg.custom_hooks] == hooks
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            for hook in cfg.custom_hooks:
                HOOKS.build(hook)
            for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
                assert evaluator.type == metric
                if 'ann_file' in evaluator:
                    evaluator.ann_file = None
                METRICS.build(evaluator)
