"""Two processes with a part of the model each, against one with all of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook

import mmea
from mmea.engine.fsdp_strategy import FSDPStrategy
from mmea.engine.runner import _check_average
from mmea.errors import UserError
from mmea.test import main as evaluate
from mmea.train import main

from ..test_train import HOOK, assert_same_weights, weights

SHARDED = (
    '--launcher',
    'pytorch',
    '--cfg-options',
    'runner_type=FlexibleRunner',
    'strategy.type=mmea.FSDPStrategy',
    'train_dataloader.batch_size=2',
)


@pytest.fixture
def config(project, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip('two processes, which want a GPU each')
    monkeypatch.syspath_prepend(project)
    (project / 'losses.py').write_text(HOOK)
    (project / 'small.py').write_text(
        "_base_ = './tiny.py'\n"
        "custom_imports = dict(imports=['losses'])\n"
        "custom_hooks = [dict(type='WriteLosses')]\n"
        'model = dict(backbone=dict(frozen_stages=1))\n'
        # A step is small enough not to amplify the rounding of float32, and
        # each is clipped.
        'optim_wrapper = dict(optimizer=dict(lr=0.002),\n'
        '                     clip_grad=dict(max_norm=0.5))\n'
        'train_cfg = dict(max_iters=10)\n'
    )
    return 'small.py'


def losses(name, ranks):
    return np.stack([np.loadtxt(f'losses_{name}_{r}') for r in range(ranks)])


@pytest.mark.slow
def test_shards_equal_the_whole(config, run_apart, run, capsys):
    assert run_apart(main, config, '--work-dir', 'one') == [0]
    args = main, config, '--work-dir', 'two', *SHARDED
    assert run_apart(*args, number=2) == [0, 0]
    (single,), ranks = losses(1, 1), losses(2, 2)
    assert single.shape == (10,)
    assert np.abs(ranks[0] - ranks[1]).max() > 1e-4  # they saw other images
    assert np.abs(ranks.mean(0) - single).max() < 1e-5
    want = weights('one/iter_10.pth')
    assert_same_weights(weights('two/iter_10.pth'), want)
    # What the training has left is as that of any other.
    model = mmea.load('two/small.py', 'two/iter_10.pth').model
    assert_same_weights(dict(model.state_dict()), want)
    run(evaluate, 'two/small.py', 'two/iter_10.pth')
    assert 'Test: ' in capsys.readouterr().out


@pytest.mark.slow
def test_resume_of_and_with_shards(config, run_apart):
    """From a checkpoint of one process, of two, and back to one."""
    assert run_apart(main, config, '--work-dir', 'one') == [0]
    args = main, config, '--work-dir', 'two', '--resume'
    options = (*SHARDED, 'train_cfg.max_iters=6')
    assert run_apart(*args, 'one/iter_4.pth', *options, number=2) == [0, 0]
    # The last one is written once more after the validation.
    options = (*SHARDED, 'train_cfg.max_iters=8')
    assert run_apart(*args, *options, number=2) == [0, 0]
    assert run_apart(*args) == [0]
    (single,), ranks = losses(1, 1), losses(2, 2)
    assert np.abs(ranks.mean(0) - single[4:8]).max() < 1e-5
    want = weights('one/iter_10.pth')
    assert_same_weights(weights('two/iter_10.pth'), want)


def test_an_average_of_shards_is_refused():
    """It would die in the first checkpoint."""
    strategy = FSDPStrategy.__new__(FSDPStrategy)
    runner = SimpleNamespace(strategy=strategy, hooks=[EMAHook()])
    with pytest.raises(UserError, match='custom_hooks has an EMAHook'):
        _check_average(runner)
    _check_average(SimpleNamespace(strategy=strategy, hooks=[]))
    _check_average(SimpleNamespace(hooks=[EMAHook()]))
