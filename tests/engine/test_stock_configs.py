import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmea.cli import common
from mmea.engine.config import load_config
from mmea.engine.stock_configs import stock_config
from mmea.errors import UserError

NL = 'nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024'
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    'name',
    [
        f'mmseg:{NL}',
        f'mmseg:{NL}.py',
        f'mmseg:nonlocal_net/{NL}.py',
        f'mmseg::nonlocal_net/{NL}',
    ],
)
def test_found(name):
    pytest.importorskip('mmseg')
    found = Path(stock_config(name))
    assert found.parts[-4:] == (
        '.mim',
        'configs',
        'nonlocal_net',
        f'{NL}.py',
    )
    cfg = load_config(name, swap='mmea.ExternalAttention2d')
    assert cfg.model.type == 'mmea.SwapAttention'
    assert cfg.model.model.type == 'EncoderDecoder'
    assert cfg.model.decode_head.type == 'NLHead'
    assert cfg.work_dir == f'work_dirs/{NL}_ExternalAttention2d'
    assert load_config(name).work_dir == f'work_dirs/{NL}'


@pytest.mark.parametrize(
    ('name', 'error'),
    [
        (
            'mmseg:nonlocal_r50-d8_4xb2-40k_cityscape-512x1024',
            rf'mmseg ships no config nonlocal_r50-d8_4xb2-40k_cityscape-'
            rf'512x1024.py \(did you mean mmseg:nonlocal_net/{NL}.py or ',
        ),
        ('mmseg:xyz', r'mmseg ships no config xyz.py; all are in .*configs$'),
        ('mmseg:', 'mmseg ships no config .py'),
        # No parts of a config, and nothing outside of the folder.
        ('mmseg:_base_/default_runtime', 'mmseg ships no config'),
        ('mmseg:../../__init__', 'mmseg ships no config'),
        (
            'mmdet:grounding_dino_swin-t_pretrain_odinw13',
            r'mmdet ships 2 configs .*\(did you mean mmdet:grounding_dino/.* '
            r'or mmdet:mm_grounding_dino/',
        ),
    ],
)
def test_not_found(name, error):
    pytest.importorskip(name.partition(':')[0])
    with pytest.raises(UserError, match=error) as info:
        load_config(name)
    assert info.value.args[0].count(' or ') <= 2


def test_no_package(monkeypatch):
    module = 'mmea.engine.stock_configs.find_spec'
    monkeypatch.setattr(module, lambda name: None)
    with pytest.raises(UserError, match='mmdet:a.*"onedl-det" or'):
        stock_config('mmdet:a')


def test_no_configs(monkeypatch, tmp_path):
    module = 'mmea.engine.stock_configs.find_spec'
    spec = type('', (), dict(origin=str(tmp_path / '__init__.py')))
    monkeypatch.setattr(module, lambda name: spec)
    with pytest.raises(UserError, match='mmdet is installed without its'):
        stock_config('mmdet:a')


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mmseg:own').write_text('a = 1')
    Path('mmseg:own.py').write_text('a = 1')
    assert load_config('mmseg:own.py').a == 1


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet', 'mmpretrain'])
def test_a_base_in_a_package(scope, tmp_path):
    """By whatever distribution the package came."""
    pytest.importorskip(scope)
    base = dict(
        mmseg=f'nonlocal_net/{NL}.py',
        mmdet='detr/detr_r50_8xb2-150e_coco.py',
        mmpretrain='resnet/resnet18_8xb32_in1k.py',
    )[scope]
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = '{scope}::{base}'\nrandomness = dict(seed=1)\n")
    cfg, stock = load_config(str(path)), load_config(f'{scope}:{base}')
    assert (
        cfg.train_dataloader.dataset.type
        == stock.train_dataloader.dataset.type
    )
    assert cfg.randomness.seed == 1


def test_shipped_ones_with_such_a_base():
    name = 'mmdet:cspnext-s_8xb256-rsb-a1-600e_in1k'
    pytest.importorskip('mmdet')
    if find_spec('mmpretrain') is None:
        with pytest.raises(UserError, match='mmpretrain is not installed'):
            load_config(name)
        return
    assert load_config(name).train_dataloader.dataset.type == 'ImageNet'
    name = 'mmpretrain:byol/benchmarks/mask-rcnn_r50_fpn_ms-1x_coco'
    assert load_config(name).model.type == 'MaskRCNN'


def commands(page):
    """The arguments of each mmea command in the shell blocks of a page."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    for block in re.findall(r'^```shell\n(.*?)^```', text, re.M | re.S):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ['mmea'] and words[1] in ('train', 'test'):
                yield words[2:]


def test_commands_of_the_page(monkeypatch):
    """Their configs are found, and the swap has something to replace."""
    found = list(commands('swap.md'))
    assert len(found) >= 4
    for words in found:
        parser = common.make_parser('', '')
        args, rest = parser.parse_known_args(words)
        if find_spec(args.config.partition(':')[0]) is None:
            continue
        cfg = common.load_config(args)
        assert cfg.model.type == 'mmea.SwapAttention'
        assert cfg.work_dir.endswith('_ExternalAttention2d')
        assert not rest
