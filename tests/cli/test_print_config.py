from pathlib import Path

import pytest
from mmengine.config import Config

import mmea
from mmea import train
from mmea.cli import print_config
from mmea.engine.config import load_config
from mmea.engine.config_text import config_text


def test_what_train_runs(run, project, capsys):
    options = '--cfg-options', 'train_cfg.max_iters=1'
    run(print_config.main, 'tiny.py', *options, '--out', 'whole.py')
    run(train.main, 'tiny.py', *options)
    written = Config.fromfile('work_dirs/tiny/tiny.py')
    found = Config.fromfile('whole.py')
    assert found.to_dict() == written.to_dict()
    hook = found.default_hooks.checkpoint
    assert (hook.type, hook.save_best) == ('mmea.BestCheckpointHook', 'mIoU')
    # It stands alone, and is its own fixed point.
    assert '_base_ =' not in Path('whole.py').read_text()
    capsys.readouterr()
    run(print_config.main, 'whole.py', '--work-dir', 'work_dirs/tiny')
    assert capsys.readouterr().out == Path('whole.py').read_text()


COMPUTED = """
_base_ = __import__('mmea').config('ea_fpn_ade20k.py')
default_scope = 'mmengine'
from os.path import basename
factor = 2
model = dict(
    decode_head=dict(num_classes=512 * factor, size={{_base_.crop_size}},
                     values=[range(2), -1e-9, (1,), None, True, 'it\\'s "x"']),
    neck=dict(in_channels=[max(8, 2**i) for i in range(5)]),
    folder=basename('a/b'), name='{{fileBasenameNoExtension}}')
numbers = {1: 'one', 2.5: dict(a=b'b')}
"""
LAZY = """
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from torch.optim import SGD
with read_base():
    from .base import *
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=rate * 2))
"""


@pytest.mark.parametrize(
    'name',
    [
        'ea_fpn_cityscapes.py',
        'mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco',
        'caam/caam-t2t-vit-7_1xb32-30e_misleading-64x64.py',
        'mmseg:nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024',
        'mmdet:detr_r50_8xb2-150e_coco',
        'computed.py',
        'lazy.py',
    ],
)
def test_text_reads_back(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('computed.py').write_text(COMPUTED)
    Path('base.py').write_text('rate = 0.5\nmodel = dict(type="X")\n')
    Path('lazy.py').write_text(LAZY)
    cfg = load_config(name)
    Path('again.py').write_text(config_text(cfg))
    assert Config.fromfile('again.py').to_dict() == cfg.to_dict()
    if name == 'computed.py':
        assert cfg.model.decode_head.num_classes == 1024
        assert cfg.model.decode_head.size == (512, 512)
        assert cfg.model.neck.in_channels == [8, 8, 8, 8, 16]
        assert cfg.model.name == 'computed'
    if name == 'lazy.py':
        assert 'lr=1.0' in Path('again.py').read_text()


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ("dict(g=float('inf'))", 'cannot write a.py as Python: NameError: na'),
        (
            "__import__('fractions').Fraction(1, 2)",
            r'model.f.1=Fraction\(1, 2\) has no text in a config: it .* 0.5;',
        ),
    ],
)
def test_a_value_without_text(value, words, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path('a.py').write_text(
        f"default_scope = 'mmengine'\nmodel = dict(f=[1, {value}])\n"
    )
    with pytest.raises(SystemExit, match=words):
        run(print_config.main, 'a.py')
    with pytest.raises(SystemExit, match='--out a.txt must be a .py file'):
        run(print_config.main, 'a.py', '--out', 'a.txt')


def changed(capsys):
    return {
        line.replace(' ', '')
        for line in capsys.readouterr().out.splitlines()
        if line[:1] in '+-' and line[:3] not in ('+++', '---')
    }


def test_diff(run, project, capsys):
    option = 'model.decode_head.dropout_ratio=0.5'
    run(print_config.main, 'tiny.py', '--diff', '--cfg-options', option)
    lines = changed(capsys)
    assert {'+dropout_ratio=0.5,', '-dropout_ratio=0,'} <= lines
    assert "+type='mmea.BestCheckpointHook')," in lines or (
        "+type='mmea.BestCheckpointHook'," in lines
    )
    Path('other.py').write_text("_base_ = 'tiny.py'\nfind = 7\n")
    work_dir = '--work-dir', 'work_dirs/other'
    run(print_config.main, 'tiny.py', '--diff', 'other.py', *work_dir)
    assert changed(capsys) == {'-find=7'}
    run(print_config.main, 'tiny.py', '--diff', mmea.config('ea_fpn_ade20k'))
    assert '-dropout_ratio=0.1,' in changed(capsys)
