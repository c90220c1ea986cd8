import pytest
from mmengine.config import Config

import mmea
from mmea.engine.config import load_config
from mmea.engine.hooks import keep_best
from mmea.errors import UserError
from mmea.report.differences import base_of, differences


def test_values():
    old = Config(
        dict(a=1, b=[1, dict(x=2)], c=dict(d=(1, 2), e=5), f=[1], work_dir='a')
    )
    new = Config(
        dict(a=1, b=(1, dict(x=3)), c=dict(d=[1, 2], g='h'), f=[1, 2])
    )
    assert differences(old, new) == [
        ('b.1.x', '2', '3'),
        ('c.e', '5', 'not set'),
        ('c.g', 'not set', 'h'),
        ('f', '[1]', '[1, 2]'),
    ]


def dumped(tmp_path, **options) -> Config:
    """The config of a run of ea_fpn_ade20k.py, as its work dir has it."""
    cfg = load_config('ea_fpn_ade20k.py', **options)
    keep_best(cfg)
    cfg.dump(tmp_path / 'ea_fpn_ade20k.py')
    return Config.fromfile(tmp_path / 'ea_fpn_ade20k.py')


def test_base_by_name(tmp_path):
    pytest.importorskip('mmseg')
    cfg = dumped(tmp_path, options={'optim_wrapper.optimizer.lr': 7})
    name, base = base_of(cfg)
    assert name == 'ea_fpn_ade20k.py'
    rate = str(Config.fromfile(mmea.config(name)).optim_wrapper.optimizer.lr)
    assert ('optim_wrapper.optimizer.lr', rate, '7') in differences(base, cfg)


def test_demo(tmp_path):
    pytest.importorskip('mmseg')
    cfg = dumped(tmp_path, demo=True, options={'train_cfg.max_iters': 3})
    name, base = base_of(cfg)
    assert name == 'ea_fpn_ade20k.py with --demo'
    changed = [row[0] for row in differences(base, cfg)]
    assert changed == ['train_cfg.max_iters']


def test_base_of_an_own_config(tmp_path, monkeypatch):
    """Its file is in the working directory, as when it was trained."""
    ade = "__import__('mmea').config('ea_fpn_ade20k.py')"
    text = f'_base_ = {ade}\nrandomness = dict(seed=5)\n'
    (tmp_path / 'mine.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('mine.py')
    keep_best(cfg)
    (tmp_path / 'work').mkdir()
    cfg.dump('work/mine.py')
    cfg = Config.fromfile('work/mine.py')
    name, base = base_of(cfg)
    assert name == 'ea_fpn_ade20k.py'
    assert differences(base, cfg) == [('randomness', 'not set', "{'seed': 5}")]
    part = "__import__('mmea').config('_base_/models/ea_fpn_r50.py')"
    (tmp_path / 'mine.py').write_text(f'_base_ = [{part}]\n')
    assert base_of(cfg) is None


def test_none_or_another(tmp_path):
    (tmp_path / 'mine.py').write_text("default_scope = 'mmseg'\n")
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert base_of(cfg) is None
    assert base_of(cfg, 'ea_fpn_ade20k')[0] == 'ea_fpn_ade20k'
    with pytest.raises(UserError, match='no config file nothing'):
        base_of(cfg, 'nothing')
