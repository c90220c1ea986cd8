import importlib
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmea.engine.config import load_config
from mmea.errors import UserError
from mmea.swap import wrap_in_swap

from .harness import ANY, EA, get_config


def write(path, **model) -> str:
    path.write_text(f"default_scope = 'mmseg'\nmodel = {model!r}\n")
    return str(path)


def test_only_the_type_moves_inwards(tmp_path):
    inner = dict(type='EncoderDecoder', _scope_='mmseg')
    backbone = dict(type='ResNet', depth=50)
    cfg = Config.fromfile(write(tmp_path / 'x.py', **inner, backbone=backbone))
    wrap_in_swap(cfg, EA)
    want = dict(
        type='mmea.SwapAttention', model=inner, rules=ANY, backbone=backbone
    )
    assert cfg.model == want
    with pytest.raises(UserError, match='x.py swaps .* by model.rules; chang'):
        wrap_in_swap(cfg, EA)
    assert cfg.model == want


def test_missing_package_is_told_before_the_swap_is_imported(
    tmp_path, monkeypatch
):
    def absent(name, *args):
        raise ImportError(f'no {name}')

    path = write(tmp_path / 'x.py', type='EncoderDecoder')
    monkeypatch.setitem(sys.modules, 'mmea.swap', None)
    monkeypatch.setattr(importlib, 'import_module', absent)
    with pytest.raises(UserError, match='no mmea.ops'):
        load_config(path, swap='mmea.ExternalAttention2d')


def test_further_keys():
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


def test_nothing_to_do():
    _, cfg = get_config('danet')
    with pytest.raises(ValueError, match='nothing was swapped') as error:
        MODELS.build(dict(type='mmea.SwapAttention', model=cfg, rules=ANY))
    assert 'decode_head.pam' in str(error.value)
