"""The scripts that start several processes, and what a lost one leaves."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mmea.engine import preflight
from mmea.train import main

from .conftest import free_port
from .test_train import assert_same_weights, weights

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
        ('dist_train.sh', 'x.py 2', {'MAX_RESTARTS': '2'}, 'needs --resume'),
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


def test_words_of_torchrun(tmp_path):
    stub = tmp_path / 'python'
    stub.write_text(
        '#!/bin/sh\necho "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "$@"\n'
    )
    stub.chmod(stat.S_IRWXU)
    env = dict(PYTHON=str(stub), NNODES='2', MASTER_ADDR='a', PORT='7')
    torchrun = '-m torch.distributed.run --nnodes=2'
    train = '--nproc_per_node=4 -m mmea.train x.py --launcher pytorch'
    done = call('dist_train.sh', 'x.py', '4', '--amp', NODE_RANK='1', **env)
    assert done.stdout == (
        f' {torchrun} --node_rank=1 --master_addr=a --master_port=7 {train} '
        '--amp\n'
    )
    env['MAX_RESTARTS'] = '3'
    done = call('dist_train.sh', 'x.py', '4', '--resume', **env)
    assert done.stdout == (
        f'1 {torchrun} --max_restarts=3 --rdzv_backend=c10d --rdzv_id=7 '
        f'--rdzv_endpoint=a:7 {train} --resume\n'
    )


LOSE_ONE = """
import os
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class LoseOne(Hook):
    '''SIGKILL of the second process, once.'''

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, runner.rank) == (5, 1) and not os.path.exists('lost'):
            open('lost', 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_lost_process_comes_back(project):
    """torchrun starts both anew, from the last checkpoint, without a hand."""
    (project / 'lose_one.py').write_text(LOSE_ONE)
    (project / 'lossy.py').write_text(
        "_base_ = './tiny.py'\n"
        "custom_imports = dict(imports=['lose_one'])\n"
        "custom_hooks = [dict(type='LoseOne')]\n"
        'train_cfg = dict(max_iters=8)\n'
    )
    env = dict(PYTHON=sys.executable, MAX_RESTARTS='1')
    args = ('lossy.py', '2', '--work-dir', 'work', '--resume')
    done = call('dist_train.sh', *args, PORT=free_port(), **env)
    assert not done.returncode, done.stderr
    assert Path('lost').exists() and 'from 4' in done.stdout
    args = ('tiny.py', '2', '--work-dir', 'straight')
    options = ('--cfg-options', 'train_cfg.max_iters=8')
    env = dict(PYTHON=sys.executable, PORT=free_port())
    done = call('dist_train.sh', *args, *options, **env)
    assert not done.returncode, done.stderr
    got, want = weights('work/iter_8.pth'), weights('straight/iter_8.pth')
    assert_same_weights(got, want)
