import csv
import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmea import train
from mmea.cli.compare import main
from mmea.compare import runs

MEMBERS = ('--members', 'none', 'NonLocal2d:reduction=1')
SHORT = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2')


def read(path) -> list[dict]:
    with open(path, encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_costs_alone(tmp_path, run):
    out = ('--out', tmp_path / 'out', '--channels', 8, '--sizes', 4, 6)
    run(main, *out, '--members', 'ExternalAttention2d', 'CBAMGate2d')
    rows = read(tmp_path / 'out/cost.csv')
    assert len(rows) == 2 * 2 * 2
    assert {row['member'] for row in rows} == {
        'ExternalAttention2d',
        'CBAMGate2d',
    }
    text = (tmp_path / 'out/README.md').read_text()
    assert '## Cost' in text and '## Accuracy' not in text
    assert (tmp_path / 'out/cost.png').is_file()


@pytest.fixture
def at_once(monkeypatch, run):
    """A run's process is over as soon as it starts, for it is in this one."""

    class Ended:
        def __init__(self, command, **_):
            assert command[:3] == [sys.executable, '-m', 'mmea.train']
            run(train.main, *command[3:])

        def poll(self):
            return 0

    names = SimpleNamespace(Popen=Ended, STDOUT=None)
    monkeypatch.setattr(runs, 'subprocess', names)


def test_training(project, run, at_once, hold):
    """Two members, two seeds; then one more seed, and nothing twice."""
    command = ('tiny.py', '--no-cost', *MEMBERS, '--out', 'out')
    options = ('--cfg-options', *SHORT)
    run(main, *command, '--jobs', 2, '--seeds', 0, 1, *options)
    rows = read('out/accuracy.csv')
    assert [(row['member'], row['seed']) for row in rows] == [
        ('none', '0'),
        ('none', '1'),
        ('NonLocal2d:reduction=1', '0'),
        ('NonLocal2d:reduction=1', '1'),
    ]
    first, second = ([r for r in rows if r['seed'] == s] for s in '01')
    # Four 1x1 convolutions of 8 channels, three biases, a group norm; the
    # last convolution has no bias before a norm.
    sizes = [int(row['parameters']) for row in first]
    assert sizes[1] - sizes[0] >= 4 * 8 * 8
    folders = sorted(Path('out/runs').glob('*/seed-0'))
    for folder, row in zip(folders, reversed(first)):
        recorded = json.loads((folder / 'result.json').read_text())
        assert recorded['metrics']['mIoU'] == float(row['mIoU'])
        config = Config.fromfile(folder.parent / 'config.py')
        attention = config.model.decode_head.attention
        assert (attention is None) == (row['member'] == 'none')
    assert {'IoU/wall', 'IoU/building'} <= rows[0].keys()
    assert float(rows[0]['macs']) < float(rows[2]['macs'])
    assert float(rows[0]['peak_memory']) > 50
    text = Path('out/README.md').read_text()
    assert '### mIoU, seed by seed' in text
    assert '### Each class, minus none' in text
    mean = statistics.mean(float(r[0]['mIoU']) for r in (first, second))
    spread = statistics.stdev(float(r[0]['mIoU']) for r in (first, second))
    assert f'{mean:.2f} ± {spread:.2f} (2 runs)' in text
    assert Path('out/accuracy.png').is_file()

    times = [path.stat().st_mtime_ns for path in Path('out').rglob('*.pth')]
    run(main, *command, '--seeds', 0, 1, *options)
    assert times == [p.stat().st_mtime_ns for p in Path('out').rglob('*.pth')]
    assert read('out/accuracy.csv') == rows
    # A run that was broken off before its result was read is resumed, and
    # then is as any other.
    for _ in range(2):
        (folders[0] / 'result.json').unlink()
        run(main, *command, '--seeds', 0, 1, *options)
        assert [r['mIoU'] for r in read('out/accuracy.csv')] == [
            r['mIoU'] for r in rows
        ]
    # The report is on all that is there, whatever is named.
    run(main, 'tiny.py', '--no-cost', '--members', 'none', '--out', 'out',
        *options)  # fmt: skip
    assert read('out/accuracy.csv') == rows
    with pytest.raises(SystemExit, match='--against CBAMGate2d: no member'):
        run(main, *command, '--against', 'CBAMGate2d', *options)
    other = hold('out')
    with pytest.raises(SystemExit, match='another comparison works in'):
        run(main, *command, *options)
    other.kill()
    other.wait()
    # Results on other data are not mixed in, nor those of another schedule.
    extra = Path('data/images/training/7.jpg')
    extra.write_bytes(extra.read_bytes() + b'.')
    with pytest.raises(SystemExit, match='run with other versions, data or'):
        run(main, *command, *options)
    extra.write_bytes(extra.read_bytes()[:-1])
    with pytest.raises(SystemExit, match='holds runs of another config'):
        run(main, *command, '--cfg-options', 'train_cfg.max_iters=3')
    # Nor another member, if it was trained otherwise.
    command = ('tiny.py', '--no-cost', '--members', 'control', '--out', 'out')
    with pytest.raises(SystemExit, match=r'max_iters: 2, now 3\)'):
        run(main, *command, '--cfg-options', 'train_cfg.max_iters=3')


def test_a_run_that_was_broken_off_in_its_last_validation(
    project, run, at_once
):
    command = ('tiny.py', '--no-cost', '--members', 'none', '--out', 'out')
    options = ('train_cfg.max_iters=4', 'train_cfg.val_interval=2')
    run(main, *command, '--cfg-options', *options)
    result = next(Path('out').glob('runs/*/*/result.json'))
    whole = json.loads(result.read_text())['metrics']
    log = next(Path('out').glob('runs/*/*/*/*/vis_data/scalars.json'))
    lines = log.read_text().splitlines()
    assert 'mIoU' in lines[-1]
    for kept in (lines[:-1], [x for x in lines if 'mIoU' not in x]):
        result.unlink()
        for later in log.parents[2].glob('*/vis_data/scalars.json'):
            later.write_text('')
        log.write_text('\n'.join(kept) + '\n')
        run(main, *command, '--cfg-options', *options)
        assert json.loads(result.read_text())['metrics'] == whole


def test_a_run_that_fails(project, run):
    """In a process of its own; the error is shown."""
    command = ('tiny.py', '--no-cost', '--members', 'none', '--out', 'out')
    options = ('--cfg-options', *SHORT, 'optim_wrapper.optimizer.lr=-1.0')
    with pytest.raises(SystemExit, match='1 of 1 runs failed.*learning rate'):
        run(main, *command, *options)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--members', 'Foo'], "no member 'Foo'"),
        (['--sizes', '0'], '--sizes must be positive, got 0'),
        (['tiny.py', '--members', 'NonLocal2d:foo=1'], 'foo is no argument'),
        (['tiny.py', '--seeds', '-1'], '--seeds must be >= 0, got -1'),
        (
            ['tiny.py', '--seeds', '0', '4294967296'],
            r'--seeds must be below 2\*\*32, got 4294967296',
        ),
        (['--limit', 'nan'], '--limit must be positive, got nan'),
        (['tiny.py', '--seeds', '0', '1', '0'], '--seeds has 0 twice'),
        (['--members', 'none', 'none'], '--members has none twice'),
        (['gone.py'], 'no config file gone.py'),
        (['--demo'], '--demo needs a config to train'),
        (['--seeds', '1'], '--seeds needs a config'),
        (
            ['--members', 'control', 'ExternalAttention2d:over_tokens=False'],
            "'control' and 'ExternalAttention2d:over_tokens=False' are one",
        ),
        (
            ['--members', 'NonLocal2d', 'mmea.NonLocal2d:sub_sample=False'],
            "'NonLocal2d' and 'mmea.NonLocal2d:sub_sample=False' are one",
        ),
        (['--out', 'tiny.py'], 'cannot make the folder --out tiny.py'),
        (['tiny.py', '--cfg-options', 'val_dataloader=None'], 'nothing to'),
        (
            ['tiny.py', '--cfg-options', 'randomness.seed=0']
            + ['train_dataloader.dataset.data_root=gone'],
            'gone',
        ),
    ],
)
def test_bad_input(arguments, message, project, run):
    with pytest.raises(SystemExit, match=message):
        run(main, '--out', 'out', *arguments)
    assert not Path('out/runs').exists() or not list(Path('out').rglob('log*'))


def test_a_readme_is_not_lost(project, run):
    Path('README.md').write_text('# My project\n')
    with pytest.raises(SystemExit, match='README.md is no report'):
        run(main, '--members', 'none', '--out', '.')
    assert Path('README.md').read_text() == '# My project\n'
