import json

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

import mmea
from mmea.cli import flops
from mmea.complexity import complexity
from mmea.engine.config import load_config
from mmea.errors import UserError
from mmea.profiling import count_macs


def total(found, group, what):
    return sum(row[what] or 0 for row in found[group].values())


def test_segmentor(project):
    cfg = load_config('tiny.py')
    found = complexity(cfg)
    assert found['size'] == [32, 48]  # of the data preprocessor
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).eval()
    image = torch.zeros(1, 3, 32, 48)
    assert found['macs'] == count_macs(lambda: model(image))
    assert list(found['parts']) == ['backbone', 'neck', 'decode_head']
    # The head is not called, but its forward().
    assert total(found, 'parts', 'macs') == found['macs']
    assert total(found, 'parts', 'parameters') == found['parameters']
    (name,) = found['attention']
    layer = model.get_submodule(name).eval()
    tokens = torch.zeros(1, 8, 8, 12)
    row = found['attention'][name]
    assert row['macs'] == count_macs(lambda: layer(tokens)) > 0
    assert row['type'] == 'ExternalAttention2d'


def test_what_a_gan_makes():
    cfg = load_config(mmea.config('sagan/sagan_cifar10.py'))
    assert complexity(cfg)['size'] == [32, 32]
    with pytest.raises(UserError, match='makes images of 32 x 32 .* 64 32;'):
        complexity(cfg, (64, 32))


def test_resnet50():
    """4.09 GMACs and 25.6 million parameters are known everywhere."""
    pytest.importorskip('mmpretrain')
    found = complexity(load_config('classification/resnet50_8xb32_in1k'))
    assert found['size'] == [224, 224]
    assert found['parameters'] == 25_557_032
    assert found['macs'] == 4_089_184_256
    assert not found['attention']


def test_detector():
    pytest.importorskip('mmdet')
    cfg = load_config('mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco')
    found = complexity(cfg, (64, 96))
    assert found['not_counted'][1:] == ['ops of mmcv: RoIAlign']
    assert total(found, 'parts', 'macs') == found['macs']
    assert list(found['attention']) == ['backbone.layer3.attention']
    # frozen_stages=1: stem and first stage.
    frozen = found['parameters'] - found['trained']
    backbone = found['parts']['backbone']
    assert frozen == backbone['parameters'] - backbone['trained'] == 225_344


def test_size_of_an_image_in_a_test():
    pytest.importorskip('mmdet')
    name = 'bccd/ea_retinanet_mobilenet-v2_fpn_1xb4_bccd-320x240'
    assert complexity(load_config(name))['size'] == [256, 320]  # by 32


def test_swapped_stock_config(run, capsys):
    name = 'mmseg:nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024'
    shape = ('--shape', 33, 41)
    run(flops.main, name, *shape, '--json')
    out = capsys.readouterr().out
    before = json.loads(out)
    assert out == json.dumps(before, indent=2, sort_keys=True) + '\n'
    assert before['parts']['auxiliary_head']['macs'] is None
    assert 'not called: auxiliary_head' in before['not_counted'][1]
    swap = ('--swap-attention', 'mmea.ExternalAttention2d')
    run(flops.main, name, *shape, '--json', *swap)
    after = json.loads(capsys.readouterr().out)
    old, new = (
        x['attention']['decode_head.nl_block'] for x in (before, after)
    )
    assert (old['type'], new['type']) == ('NonLocal2d', 'ExternalAttention2d')
    assert after['macs'] - before['macs'] == new['macs'] - old['macs']
    run(flops.main, name, *shape)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [
        'backbone', 'ResNetV1c', '23,527,264',
        f'{before["parts"]["backbone"]["macs"] / 1e9:.3f}',
        f'{before["parts"]["backbone"]["macs"] / before["macs"]:.1%}',
    ] in rows  # fmt: skip
    assert ['auxiliary_head', 'FCNHead', '2,364,691', '-', '-'] in rows


def test_wrong_sizes(run, project):
    with pytest.raises(SystemExit, match='--shape must be positive, got 0 4'):
        run(flops.main, 'tiny.py', '--shape', 0, 4)
    cfg = load_config(
        'tiny.py', options={'model.neck.in_channels': [4, 8, 16, 99]}
    )
    with pytest.raises(UserError, match='take an image of 32 x 48 .*--shape'):
        complexity(cfg)
