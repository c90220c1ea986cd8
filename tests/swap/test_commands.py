"""Train and test a model whose attention is swapped."""

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmea import test, train
from mmea.engine.checkpoint import load_checkpoint

from .harness import ANY, get_config, small


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


def test_the_swap_is_checked_before_the_data(nonlocal_project, run):
    shutil.rmtree('data')
    swap = '--swap-attention', 'mmea.ExternalAttention2d'
    for main in (nonlocal_project, partial(run, test.main)):
        args = ['x.pth'] if main is not nonlocal_project else []
        with pytest.raises(SystemExit, match='nothing was swapped'):
            main('tiny.py', *args, *swap)
        with pytest.raises(SystemExit, match='folder data/images/.* missing'):
            main('nl.py', *args, *swap)
