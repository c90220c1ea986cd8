"""The scripts that start several processes."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from mmea.engine import preflight
from mmea.train import main

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


def call(script, *args, **variables):
    """Call a script with nothing set but the variables given."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('GPUS')}
    return subprocess.run(
        ['bash', TOOLS / script, *args],
        env={**env, **variables},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """A stub that says what it would run, word by word."""
    stub = tmp_path / 'bin/srun'
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf \'%s\\0\' "$PORT" "$@"\n')
    stub.chmod(stat.S_IRWXU)
    monkeypatch.setenv('PATH', f'{stub.parent}:{os.environ["PATH"]}')

    def start(*args, **variables):
        done = call('slurm_train.sh', *args, PORT='1234', **variables)
        assert not done.returncode, done.stderr
        port, *words = done.stdout.split('\0')[:-1]
        assert port == '1234'  # what is exported reaches the processes
        return words

    return start


def test_slurm_runs_what_it_should(srun):
    options = ('--cfg-options', 'a.b=[1, 2]', "c=it's $HOME *", '--resume')
    got = srun('gpu', 'my job', 'my configs/x.py', *options, PYTHON='py3')
    srun_words = [
        '--partition=gpu',
        '--job-name=my job',
        '--gres=gpu:8',
        '--ntasks=8',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
    ]
    train = ['py3', '-u', '-m', 'mmea.train', 'my configs/x.py']
    assert got == [*srun_words, *train, '--launcher', 'slurm', *options]


def test_slurm_sizes(srun):
    sizes = dict(GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='3')
    got = srun('p', 'j', 'x.py', SRUN_ARGS='--time=1 --qos=low', **sizes)
    assert got[2:9] == [
        '--gres=gpu:4',
        '--ntasks=16',
        '--ntasks-per-node=4',
        '--cpus-per-task=3',
        '--kill-on-bad-exit=1',
        '--time=1',
        '--qos=low',
    ]
    # A job of less than one machine does not ask for all of its GPUs.
    assert srun('p', 'j', 'x.py', GPUS='2')[2:5] == [
        '--gres=gpu:2',
        '--ntasks=2',
        '--ntasks-per-node=2',
    ]


@pytest.mark.parametrize(
    ('script', 'args', 'variables', 'words'),
    [
        ('slurm_train.sh', 'p j', {}, 'PARTITION JOB_NAME CONFIG, got 2'),
        ('slurm_train.sh', 'p j x.py', {'GPUS': 'all'}, 'GPUS must .* all'),
        ('slurm_train.sh', 'p j x.py', {'GPUS_PER_NODE': '0'}, 'NODE must'),
        ('slurm_train.sh', 'p j x.py', {'PATH': '/bin'}, 'no srun here'),
        ('dist_train.sh', 'x.py', {}, 'CONFIG PROCESSES, got 1'),
        ('dist_test.sh', 'x.py 2', {}, 'CONFIG CHECKPOINT PROCESSES, got 2'),
    ],
)
def test_one_clear_line(script, args, variables, words):
    done = call(script, *args.split(), **variables)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and not done.stdout
    assert line.startswith('error: ')
    assert re.search(words, line), line


def test_one_process_of_slurm_clears_up(project, run, monkeypatch):
    monkeypatch.setattr(preflight, 'get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    for rank, left in (('1', True), ('0', False)):
        monkeypatch.setenv('SLURM_PROCID', rank)
        with pytest.raises(SystemExit, match='only torchrun'):
            run(main, 'tiny.py', '--work-dir', rank, '--launcher', 'slurm')
        assert Path(rank).exists() is left
