"""The check of the layers on a GPU runs, on a CPU, and can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mmea.layers
from benchmarks import gpu_check

ROOT = Path(__file__).resolve().parents[1]
# Run as a module where torch is all there is.
ALONE = """
import runpy, sys

class Missing:
    names = {'cv2', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg',
             'pytest', 'rich', 'torchvision'}

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.names:
            raise ModuleNotFoundError(f'{name} is hidden')

sys.meta_path.insert(0, Missing())
runpy.run_module('benchmarks.gpu_check', run_name='__main__')
"""
# The layer computes something else where it is not in float64.
WRONG = """
import sys
from benchmarks import gpu_check

class Wrong(gpu_check.L.CaaMPair2d):
    def forward(self, x, mask=None):
        causal, spurious = super().forward(x, mask)
        if x.dtype.itemsize == 4:
            causal = causal * 1.3
        return causal, spurious

class Raising(gpu_check.L.CaaMPair2d):
    def forward(self, x, mask=None):
        raise RuntimeError('out of order')

gpu_check.CASES = {
    'CaaMPair2d: wrong': (Wrong, {}),
    'CaaMPair2d: raising': (Raising, {}),
    'CaaMPair2d: right': (gpu_check.L.CaaMPair2d, {}),
}
sys.exit(gpu_check.main(sys.argv[1:]))
"""


def run(code, folder, *args):
    command = [sys.executable, '-c', code, '--device', 'cpu']
    command += ['--out', str(folder), *args]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )
    lines = (folder / 'rows.jsonl').read_text('utf-8').splitlines()
    return done, [json.loads(line) for line in lines]


def test_torch_is_all_it_needs(tmp_path):
    parts = ('--parts', 'layers', 'stack', 'speed')
    done, rows = run(ALONE, tmp_path, '--only', 'CaaMAttention', *parts)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {(row['case'], row['variant']): row for row in rows}
    case = 'CaaMAttention: 4 heads'
    for variant in ('float32', 'bfloat16', 'float16', 'mask', 'large map'):
        row = found[case, variant]
        assert row['status'] == 'passed' and row['reference'] == 'float64, cpu'
        assert 0 < row['error'] < row['limit']
    assert found[case, 'large map']['memory'] > 1e5
    assert found[case, 'two runs']['note'] == 'equal'
    assert found[case, 'tf32']['note'] == 'needs a GPU'
    assert found['mmcv.ops: nms', 'float32']['note'] == (
        'mmcv.ops: mmcv is hidden'
    )
    assert ('mmseg: ea_fpn_ade20k.py --demo', 'float32') in found
    assert all(row['status'] in ('passed', 'not run') for row in rows)
    text = (tmp_path / 'README.md').read_text('utf-8')
    passed = sum(row['status'] == 'passed' for row in rows)
    assert f'{passed} passed, 0 failed, 0 measured, ' in text
    assert '| CaaMAttention | ' in text and 'device: cpu' in text


def test_a_wrong_layer_fails_and_stops_no_other(tmp_path):
    done, rows = run(
        WRONG, tmp_path, '--only', 'CaaMPair2d', '--parts', 'layers'
    )
    assert done.returncode == 1, done.stdout + done.stderr
    states = {}
    for row in rows:
        if row.get('note') != 'needs a GPU':
            states.setdefault(row['case'], []).append(row)
    first, second, third = states.values()
    assert len(first) == len(second) == len(third) > 15
    for row in first:
        # Twice the same wrong is no difference.
        same = row['variant'] == 'two runs'
        assert row['status'] == ('passed' if same else 'failed'), row
    for row in second:
        assert row['status'] == 'failed'
        assert row['note'] == 'RuntimeError: out of order'
        assert 'in forward' in row['traceback']
    assert all(row['status'] == 'passed' for row in third)
    # Listed at the end.
    assert 'CaaMPair2d: raising' in done.stdout.splitlines()[-1]


def test_a_budget_of_nothing_lists_all_as_not_run(tmp_path, capsys):
    argv = ['--device', 'cpu', '--out', str(tmp_path), '--seconds', '0']
    assert gpu_check.main(argv) == 0
    lines = (tmp_path / 'rows.jsonl').read_text('utf-8').splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row['status'] for row in rows} == {'not run'}
    assert {row['note'] for row in rows} == {'no time left'}
    assert {row['part'] for row in rows} == set(gpu_check.PARTS)
    found = {(row['case'], row['variant']) for row in rows}
    assert len(found) == len(rows)
    for case in gpu_check.CASES:
        assert (case, 'float32') in found
    text = (tmp_path / 'README.md').read_text('utf-8')
    assert f'{len(rows)} not run' in text
    assert f'* float16, {len(gpu_check.CASES)} rows: no time left' in text


def test_a_second_process_goes_on(tmp_path, capsys):
    """As after an error that leaves the GPU to no other kernel."""
    argv = ['--device', 'cpu', '--out', str(tmp_path), '--run', '7.5']
    argv += ['--seconds', '0', '--only', 'CaaMAttention']
    lost = dict(
        part='layers',
        case='CaaMAttention: 4 heads',
        variant='float32',
        status='failed',
        note='lost',
    )
    path = tmp_path / 'rows.jsonl'
    with path.open('w', encoding='utf-8') as file:
        for begun in (7.5, 6.5):
            print(json.dumps(dict(lost, run=begun)), file=file)
    assert gpu_check.main(argv) == 1
    rows = [json.loads(r) for r in path.read_text('utf-8').splitlines()]
    assert sum(row['variant'] == 'float32' for row in rows) == 2 + 4


def test_every_layer_is_there():
    assert set(gpu_check.LAYERS) == set(mmea.list_attentions())


KERNELS = [case for case in gpu_check.CASES if 'kernels' in case]


@pytest.mark.parametrize('case', KERNELS)
def test_kernels_need_a_gpu(case):
    with pytest.raises(gpu_check.NotRun, match='not on a CUDA GPU'):
        gpu_check.check(case, gpu_check.Variant(), 'cpu')


@pytest.mark.parametrize(
    'case', [c for c in gpu_check.CASES if c not in KERNELS]
)
@pytest.mark.parametrize('variant', ['float32', 'bfloat16'])
def test_every_check_can_fail(case, variant, monkeypatch):
    """The output is 1.1 times what it should be, but not in float64."""
    layer, kwargs = gpu_check.CASES[case]

    class Wrong(layer):
        def forward(self, x, mask=None):
            outs = super().forward(x, mask)
            if x.dtype == torch.float64:
                return outs
            if isinstance(outs, tuple):
                return tuple(1.1 * out for out in outs)
            return 1.1 * outs

    variant = gpu_check.VARIANTS[variant]
    assert gpu_check.check(case, variant, 'cpu')['status'] == 'passed'
    monkeypatch.setitem(gpu_check.CASES, case, (Wrong, kwargs))
    gpu_check.reference.cache_clear()
    row = gpu_check.check(case, variant, 'cpu')
    assert row['status'] == 'failed'


@pytest.mark.parametrize(
    ('wrong', 'where'),
    [
        # 1.2 times the gradient of the input, by the same numbers.
        ('input', 'gradient of input'),
        ('weight', 'gradient of out_proj.weight'),
        ('statistics', 'norm.running_var'),
    ],
)
def test_what_is_wrong_is_named(wrong, where, monkeypatch):
    layer, kwargs = gpu_check.CASES[case := 'SelfAttention2d: 8 heads']

    class Wrong(layer):
        def forward(self, x, mask=None):
            right = x.dtype == torch.float64
            if wrong == 'input' and not right:
                x = x + 0.2 * (x - x.detach())
            if wrong == 'weight' and not right:
                self.out_proj.weight.register_hook(lambda grad: 1.2 * grad)
            out = super().forward(x, mask)
            if wrong == 'statistics' and not right:
                self.norm.running_var.data.mul_(1.01)
            return out

    monkeypatch.setitem(gpu_check.CASES, case, (Wrong, kwargs))
    gpu_check.reference.cache_clear()
    row = gpu_check.check(case, gpu_check.Variant(), 'cpu')
    assert row['status'] == 'failed' and row['where'] == where


def test_compare_wants_all_and_finite():
    want = {'output': torch.ones(3), 'gradient of input': torch.ones(3)}
    assert gpu_check.compare(want, want, 'float32')['status'] == 'passed'
    with pytest.raises(AssertionError, match='output'):
        gpu_check.compare({}, want, 'float32')
    with pytest.raises(AssertionError, match=r'output is \(1,\)'):
        gpu_check.compare(dict(want, output=torch.ones(1)), want, 'float32')
    bad = dict(want, output=torch.tensor([1, 1, torch.nan]))
    with pytest.raises(AssertionError, match='output is not finite'):
        gpu_check.compare(bad, want, 'float32')
    # One wrong number among many.
    many = {'output': torch.ones(10_000)}
    other = {'output': many['output'].clone()}
    other['output'][7] = 1.01
    row = gpu_check.compare(other, many, 'float32')
    assert row['status'] == 'failed'
    assert row['error'] == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_that_is_not_there(monkeypatch):
    class Wrong(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(channels))

        def forward(self, x):
            return 2 * x

    monkeypatch.setitem(gpu_check.CASES, 'wrong', (Wrong, {}))
    with pytest.raises(AssertionError, match='no gradient of unused'):
        gpu_check.check('wrong', gpu_check.Variant(), 'cpu')


def test_focal_loss():
    """One logit at a time."""
    torch.manual_seed(0)
    logits, target = torch.randn(5, 3), torch.tensor([0, 3, 1, 2, 3])
    want = 0
    for row, label in zip(logits.sigmoid().tolist(), target.tolist()):
        for i, p in enumerate(row):
            share, weight = (p, 0.25) if i == label else (1 - p, 0.75)
            want -= weight * (1 - share) ** 2 * torch.tensor(share).log()
    got = gpu_check.plain_focal_loss(logits, target, 2.0, 0.25)
    torch.testing.assert_close(got, want / 5)


def test_only_what_folds_is_deployed():
    deployed = set()
    for case in gpu_check.CASES:
        module = gpu_check.make(case, train=False)
        if gpu_check.suits(module, gpu_check.VARIANTS['deployed']):
            module.switch_to_deploy()
            deployed.add(gpu_check.layer_of(case))
    assert deployed == {'ExternalAttention2d', 'MultiheadExternalAttention'}


def test_the_network_of_a_config():
    pytest.importorskip('mmseg.models')
    assert gpu_check.check_config('cpu')['reference'] == 'float64, cpu'
