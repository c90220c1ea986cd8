"""Which checkpoint is the best, and that it is kept."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from mmea import config
from mmea.engine.checkpoint import pick_checkpoint
from mmea.engine.hooks import BestCheckpointHook, keep_best
from mmea.errors import UserError
from mmea.test import main as evaluate
from mmea.train import main as train


@pytest.mark.parametrize(
    ('scope', 'evaluator', 'key'),
    [
        ('mmseg', dict(type='IoUMetric', iou_metrics=['mIoU']), 'mIoU'),
        ('mmseg', dict(type='mmea.PresentClassIoUMetric'), 'mIoU'),
        ('mmseg', dict(type='IoUMetric', iou_metrics=['mDice']), None),
        ('mmseg', dict(type='IoUMetric', prefix='a'), None),
        ('mmdet', dict(type='CocoMetric'), 'coco/bbox_mAP'),
        (
            'mmdet',
            [dict(type='VOCMetric'), dict(type='CocoMetric', metric='segm')],
            'coco/segm_mAP',
        ),
        (
            'mmdet',
            dict(type='mmea.PresentClassCocoMetric', metric=['bbox', 'segm']),
            'coco/segm_mAP',
        ),
        ('mmdet', dict(type='CocoMetric', metric='proposal'), None),
        ('mmdet', dict(type='LVISMetric'), None),
        ('mmpretrain', dict(type='Accuracy', topk=(1, 5)), 'accuracy/top1'),
        ('mmpretrain', dict(type='Accuracy', topk=5), None),
        ('mmpretrain', dict(type='Accuracy', thrs=[0.1]), None),
        (
            'mmpretrain',
            dict(type='mmea.PointAccuracyMetric'),
            'accuracy/overall',
        ),
        (
            'mmpretrain',
            dict(type='mmea.PartIoUMetric'),
            'parts/instance_mIoU',
        ),
    ],
)
def test_metric_of_the_task(scope, evaluator, key):
    pytest.importorskip(f'{scope}.evaluation')
    __import__('mmea.engine.metrics')
    cfg = Config(
        dict(
            default_scope=scope,
            val_evaluator=evaluator,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        )
    )
    keep_best(cfg)
    assert cfg.default_hooks.checkpoint.get('save_best') == key


def test_what_a_config_says_is_left_alone():
    hook = dict(type='CheckpointHook', save_best='mAcc')
    cfg = Config(
        dict(
            default_scope='mmseg',
            val_evaluator=dict(type='IoUMetric'),
            default_hooks=dict(checkpoint=hook),
        )
    )
    keep_best(cfg)
    assert cfg.default_hooks.checkpoint.save_best == 'mAcc'
    for changes in (dict(default_hooks=dict(checkpoint=None)), {}):
        keep_best(Config(changes))


def test_a_validation_without_a_score(caplog):
    """mmdet's, of a detector that finds nothing."""
    said = []
    runner = SimpleNamespace(logger=SimpleNamespace(info=said.append))
    hook = BestCheckpointHook(save_best='coco/bbox_mAP', rule='greater')
    hook._save_best_checkpoint(runner, {})
    hook._save_best_checkpoint(runner, {'coco/other': 1})
    assert said == 2 * [
        'No coco/bbox_mAP in this validation: the best checkpoint stays'
    ]


@pytest.mark.parametrize('schedulers', [None, []])
def test_a_scheduler_is_saved_where_there_is_one(monkeypatch, schedulers):
    """A GAN's, too, whose recipe has none: a resumed run goes on with it."""
    monkeypatch.setattr(CheckpointHook, 'before_train', lambda *_: None)
    saved = Config.fromfile(config('sagan/sagan_cifar10.py'))
    keep_best(saved)
    kwargs = dict(saved.default_hooks.checkpoint)
    assert kwargs.pop('type') == 'mmea.BestCheckpointHook'
    hook = BestCheckpointHook(**kwargs)
    hook.before_train(SimpleNamespace(param_schedulers=schedulers))
    assert hook.save_param_scheduler == (schedulers is not None)


def test_the_best_is_what_test_takes(project, run, capsys):
    options = 'train_cfg.max_iters=4', 'train_cfg.val_interval=1'
    run(train, 'tiny.py', '--work-dir', 'work', '--cfg-options', *options)
    (best,) = Path('work').glob('best_mIoU_iter_*.pth')
    scores = {}
    (log,) = Path('work').rglob('scalars.json')
    for entry in map(json.loads, log.read_text().splitlines()):
        if 'mIoU' in entry:
            scores[entry['step']] = entry['mIoU']
    assert len(scores) == 4
    assert scores[int(best.stem.rpartition('_')[2])] == max(scores.values())
    assert pick_checkpoint('work') == str(best)
    run(evaluate, 'tiny.py', '--work-dir', 'work')
    assert f'Taking the best checkpoint: {best}' in capsys.readouterr().out
    other = best.with_name('best_mIoU_iter_9.pth')  # of another training
    shutil.copy(best, other)
    os.utime(other, (0, 0))
    capsys.readouterr()
    assert pick_checkpoint('work') == str(best)
    assert f'{other.name} of others may be better' in capsys.readouterr().out
    other.unlink()
    best.write_bytes(best.read_bytes()[:100])  # half of it was written
    assert pick_checkpoint('work').endswith('work/iter_4.pth')
    with pytest.raises(UserError, match='no checkpoint in gone'):
        pick_checkpoint('gone')
