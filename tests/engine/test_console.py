"""What a person sees of a run; the log file has all of it."""

import logging
import re
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger, print_log
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmea.cli.predict import main as use
from mmea.engine import console, noise
from mmea.engine.next_step import tell_next_step
from mmea.test import main as evaluate
from mmea.train import main


@pytest.fixture
def train(project, run):
    options = '--cfg-options', 'train_cfg.max_iters=4', 'train_cfg.val_int' \
        'erval=2', 'default_hooks.logger.interval=2'  # fmt: skip
    return partial(run, main, 'tiny.py', '--work-dir', 'work', *options)


def test_few_lines(train, run, capsys):
    train()
    out = capsys.readouterr().out.splitlines()
    assert len(out) < 22  # three of them the next step
    text = '\n'.join(out)
    assert 'config    tiny.py' in text
    assert 'ADE20KDataset, 8 for training, ' in text
    assert 'length    4 iterations, on cpu' in text
    lines = [line for line in out if line[:3] in ('2/4', '4/4')]
    assert [line[:3] for line in lines] == ['2/4', '4/4']
    assert text.count('per class results') == 1  # of the last validation
    assert ' loss ' in lines[0] and 's/iteration' in lines[0]
    checks = [line for line in out if line.startswith('Validation at ')]
    assert [line.split(':')[0][-1] for line in checks] == ['2', '4']
    assert all('mIoU ' in line for line in checks)
    assert 'the best so far' in checks[0]
    (log,) = Path('work').rglob('*.log')
    told = log.read_text()
    assert 'System environment' in told and 'Config:' in told
    assert 'per class results' in told and 'Iter(train)' in told
    run(evaluate, 'tiny.py', '--work-dir', 'work')
    out = capsys.readouterr().out
    assert 'Test: ' in out and 'System environment' not in out
    assert 'per class results' in out


def test_next_step(train, run, capsys):
    """The commands that a training ends with take what it names."""
    train()
    out = capsys.readouterr().out
    *_, best, predict, report = out.splitlines()
    scores = [float(score) for score in re.findall(r'mIoU ([\d.]+)', out)]
    (path,) = Path('work').glob('best_mIoU_iter_*.pth')
    # mmea tells of both validations, and of the better one once more.
    assert best == f'Best checkpoint: mIoU {max(scores[:2]):.4g}, {path}'
    assert predict == 'Next: mmea predict work/tiny.py IMAGES --out found'
    assert report == '      mmea report work'
    image = 'data/images/validation/0.jpg'
    run(use, *predict.replace('IMAGES', image).split()[3:])
    assert f'Taking the best checkpoint: {path}' in capsys.readouterr().out
    train('default_hooks.checkpoint.save_best=None', '--work-dir', 'a b')
    *_, latest, predict, report = capsys.readouterr().out.splitlines()
    assert latest == 'Latest checkpoint: a b/iter_4.pth'
    assert report == "      mmea report 'a b'"


def test_next_step_of_two_bests(capsys, monkeypatch):
    saver = CheckpointHook(save_best=['a', 'b'], rule='greater')
    hub = dict(best_score_b=0.25, best_ckpt_b='/w/best_b.pth')
    runner = SimpleNamespace(
        hooks=[saver],
        work_dir='/w',
        cfg=ConfigDict(
            filename='x/own.py',
            test_dataloader=dict(dataset=dict(pipeline=[])),
        ),
        message_hub=SimpleNamespace(runtime_info=hub),
        model=SimpleNamespace(),
    )
    tell_next_step(runner)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Best checkpoint: b 0.25, /w/best_b.pth'
    assert lines[1].startswith('Next: mmea predict /w/own.py ')
    runner.cfg.test_dataloader.dataset.pop('pipeline')  # of point clouds
    tell_next_step(runner)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ['Next: mmea test /w/own.py', '      mmea report /w']
    runner.cfg.pop('test_dataloader')
    tell_next_step(runner)
    assert capsys.readouterr().out.endswith('\nNext: mmea report /w\n')
    runner.model.generator = nn.Identity()
    tell_next_step(runner)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == 'Next: mmea generate /w/own.py --out made'
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    tell_next_step(runner)
    assert not capsys.readouterr().out


def test_all_lines(train, capsys):
    train('--verbose')
    out = capsys.readouterr().out
    assert 'System environment' in out and 'Iter(train)' in out


def test_what_passes(capsys, tmp_path):
    logger = MMLogger('x', 'x', log_file=str(tmp_path / 'x.log'))
    (handler,) = [
        h for h in logger.handlers if type(h) is logging.StreamHandler
    ]
    handler.addFilter(noise.ToConsole())
    handler.setStream(console._Stdout())
    scope = dict(print_log=print_log, logger=logger)
    for module in ('mmea.engine.x', 'mmseg.x', 'mmengine.runner.x'):
        own = dict(scope, __name__=module)
        exec(f'print_log("from {module}", logger)', own)  # noqa: S102
    print_log('careful', logger, logging.WARNING)
    print_log(
        'The prefix is not set in metric class X.', logger, logging.WARNING
    )
    out = capsys.readouterr().out
    assert 'from mmea.engine.x' in out and 'careful' in out
    for hidden in ('mmseg.x', 'runner.x', 'prefix'):
        assert hidden not in out
        assert hidden in (tmp_path / 'x.log').read_text()


def test_prints_without_a_log(capsys, monkeypatch):
    """As of commands that read data and train nothing."""
    monkeypatch.setattr(MMLogger, '_instance_dict', {})
    for module in ('pycocotools.coco', 'own'):
        exec('say(__name__)', dict(__name__=module, say=noise._print))
    assert capsys.readouterr().out == 'own\n'


def test_warnings_that_tell_nothing():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        noise.hide_noise()
        warnings.warn('The draw is False, and so on', stacklevel=1)
        warnings.warn('something new', stacklevel=1)
    assert [str(w.message) for w in seen] == ['something new']


def test_the_best_of_epochs(capsys):
    """Its file is named by the epoch, the validation by the iteration."""
    saver = CheckpointHook(save_best='mIoU')
    runner = SimpleNamespace(iter=40, hooks=[saver])
    saver.best_ckpt_path = None
    hook = console.ConsoleHook()
    for path in ('epoch_1', 'epoch_1', 'epoch_3'):
        saver.best_ckpt_path = f'best_mIoU_{path}.pth'
        hook.after_val_epoch(runner, dict(mIoU=1.0))
    lines = capsys.readouterr().out.splitlines()
    assert ['best so far' in line for line in lines] == [True, False, True]


def test_early_stop(train, capsys):
    options = ('optim_wrapper.optimizer.lr=0.0', 'train_cfg.max_iters=9',
               'train_cfg.val_interval=1', 'param_scheduler=None')  # fmt: skip
    train(*options, '--early-stop', '2')
    out = capsys.readouterr().out
    assert 'Validation at 3:' in out and 'Validation at 4:' not in out
    with pytest.raises(SystemExit, match='--early-stop 0: give validations'):
        train('--early-stop', '0')
    with pytest.raises(SystemExit, match='--early-stop 1: .*save_best .now N'):
        train('val_evaluator.iou_metrics=[mDice]', '--early-stop', '1')


def test_fast_resume(train, capsys):
    import inspect

    train('--fast-resume') if 'fast_forward_on_resume' in inspect.signature(
        IterBasedTrainLoop
    ).parameters else pytest.raises(SystemExit, train, '--fast-resume')


def test_tensorboard(train, monkeypatch):
    events = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    train('--log', 'tensorboard')
    (path,) = Path('work').rglob('events.out.tfevents.*')
    found = events.EventAccumulator(str(path.parent))
    found.Reload()
    assert [e.step for e in found.Scalars('loss')] == [2, 4]
    assert [e.step for e in found.Scalars('mIoU')] == [2, 4]
    assert list(Path('work').rglob('scalars.json'))  # the stack's own stays


def test_package_of_a_log_is_missing(train, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    words = '--log wandb needs the package wandb: pip install wandb'
    with pytest.raises(SystemExit, match=words):
        train('--log', 'wandb')
