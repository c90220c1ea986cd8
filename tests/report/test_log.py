import math

import pytest

from mmea.errors import UserError
from mmea.report.log import read_log
from mmea.report.run import read_run
from mmea.report.tables import facts_table

from .conftest import loss, write_log

TEXT = """\
2026/01/02 10:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    PyTorch: 2.9.0+cpu
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3

Runtime environment:
    seed: 7
------------------------------------------------------------
2026/01/02 10:05:00 - mmengine - INFO - per class results:
+-------+------+-------+
| Class | IoU  |  Acc  |
+-------+------+-------+
|  sky  | 90.5 | 95.25 |
| a b/c | nan  |  3.0  |
+-------+------+-------+
2026/01/02 10:05:30 - mmengine - INFO - Iter(val) [9/9]    mIoU: 50.0  time: 1
"""


def test_resumed_log_has_no_point_twice(tmp_path):
    write_log(
        tmp_path,
        '20260101_000000',
        [
            loss(1, 9.0),
            loss(2, 8.0),
            dict(mIoU=10.0, step=2, time=1.0),
            loss(3, 7.0),
            loss(4, 6.0),
            dict(mIoU=40.0, step=4),
        ],
    )
    write_log(
        tmp_path,
        '20260102_000000',
        [loss(3, 5.0), loss(4, 4.0), dict(mIoU=20.0, step=4), loss(5, 3.0)],
    )
    write_log(tmp_path, '20260103_000000', [dict(mIoU=99.0, step=0)])
    log = read_log(tmp_path)
    assert log.curve('loss') == [(1, 9), (2, 8), (3, 5), (4, 4), (5, 3)]
    assert log.metric('mIoU') == [(2, 10), (4, 20)]
    assert log.unit == 'iteration'
    assert [start.name[:8] for start in log.starts] == ['20260101', '20260102']


def test_epochs(tmp_path):
    rows = [loss(i, 1.0, epoch=(i + 1) // 2) for i in range(1, 5)]
    scores = [
        {'coco/bbox_mAP': s, 'step': i} for i, s in ((1, -1.0), (2, 0.5))
    ]
    write_log(tmp_path, '1', [*rows[:2], scores[0], *rows[2:], scores[1]])
    # The second epoch once more.
    better = {'coco/bbox_mAP': 0.7, 'coco/a_precision': 0.6, 'step': 2}
    write_log(tmp_path, '2', [*rows[2:], better])
    log = read_log(tmp_path)
    assert log.unit == 'epoch'
    (first, second) = log.metric('coco/bbox_mAP')
    assert first[0] == 1 and math.isnan(first[1])  # COCO's -1: nothing there
    assert second == (2, 0.7)
    assert log.val[1]['classes'] == {'AP': {'a': 0.6}}
    assert log.val[1]['metrics'] == {'coco/bbox_mAP': 0.7}


def test_what_the_text_alone_has(tmp_path):
    rows = [loss(1, 1.0), dict(mIoU=50.0, step=1)]
    write_log(tmp_path, '20260102', rows, TEXT)
    log = read_log(tmp_path)
    classes = log.val[0]['classes']
    assert classes['Acc'] == {'sky': 95.25, 'a b/c': 3.0}
    assert classes['IoU']['sky'] == 90.5
    assert math.isnan(classes['IoU']['a b/c'])
    (start,) = log.starts
    assert start.seconds == 330
    assert start.environment == {
        'sys.platform': 'linux',
        'PyTorch': '2.9.0+cpu',
        'seed': '7',
    }


def test_half_a_line_at_the_end(tmp_path):
    path = write_log(tmp_path, '1', [loss(1, 1.0), loss(2, 2.0)])
    path.write_text(path.read_text() + '{"lr": 0.')
    log = read_log(tmp_path)
    assert log.curve('loss') == [(1, 1), (2, 2)]
    assert log.notes == ['1.json ends in the middle of a line']


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ('{"lr": \n{"step": 2, "iter": 2}\n', r'1\.json:1 is damaged'),
        ('{"mode": "train", "iter": 1}\n', 'is of another version'),
        ('[1]\n', 'is of another version'),
        ('', 'no iteration in its log yet'),
    ],
)
def test_bad_log(tmp_path, rows, message):
    write_log(tmp_path, '1', []).write_text(rows)
    with pytest.raises(UserError, match=message):
        read_log(tmp_path)


def test_shorter_than_the_interval_of_the_log(tmp_path):
    """Its validations, or nothing but its text."""
    text = TEXT.replace('Iter(val)', 'Epoch(val) [2]')
    for name, told, unit in (('i', TEXT, 'iteration'), ('e', text, 'epoch')):
        val = dict(mIoU=50.0, time=1.0, data_time=0.1, step=2)
        write_log(tmp_path / name, '20260101_000000', [val], told)
        run = read_run(tmp_path / name, name)
        assert run.log.train == [] and run.log.metric('mIoU') == [(2, 50)]
        assert run.length == f'2 {unit}s, 0:05:30 h'
        assert 'shorter than default_hooks.logger.interval' in run.notes[0]
        facts = facts_table([run], ['']).rows
        assert ['starts, with iterations', '20260101_000000'] in facts
    work = tmp_path / 'none'
    write_log(work, '20260101_000000', [], TEXT).unlink()
    with pytest.raises(UserError, match='no work dir of a training'):
        read_log(work)
    (work / 'iter_9.pth').touch()
    log = read_log(work)
    assert log.train == log.val == []
    assert log.starts[0].environment['PyTorch'] == '2.9.0+cpu'


def test_what_says_nothing_of_an_environment(tmp_path):
    lines = 'MUSA available: False', 'GPU number: 1', 'CUDA available: '
    for cuda in ('False', 'True'):
        text = '\n    '.join(['System environment:', *lines]) + cuda + '\n'
        write_log(tmp_path / cuda, '1', [loss(1, 1.0)], text)
        found = read_run(tmp_path / cuda, 'x').environment
        own = {'GPU number': '1'} if cuda == 'True' else {}
        assert found == {**own, 'CUDA available': cuda}


def test_no_log(tmp_path):
    with pytest.raises(UserError, match='no such work dir: nowhere'):
        read_log(tmp_path.relative_to(tmp_path) / 'nowhere')
    with pytest.raises(UserError, match='no work dir of a training'):
        read_log(tmp_path)
    (tmp_path / '20200101.log.json').write_text('{}')
    with pytest.raises(UserError, match='another version, mmcv 1'):
        read_log(tmp_path)
