import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

import mmea
from mmea.cli import env
from mmea.environment import facts, machine, report

ROOT = Path(__file__).resolve().parents[2]


def look(capsys, *args) -> tuple[int, str]:
    """Exit code and what is printed."""
    code = 0
    try:
        env.main(list(args))
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out


def test_this_environment(capsys):
    code, out = look(capsys, '--json')
    found = json.loads(out)
    assert out == json.dumps(found, indent=2, sort_keys=True) + '\n'
    assert code == bool(found['traps'])
    versions = found['packages']['torch']['versions']
    assert torch.__version__.startswith(versions['torch'])
    assert found['mmea']['version'] == mmea.__version__
    assert str(ROOT / 'mmea') in found['mmea']['installed']
    assert found['stack'] in ('onedl', 'openmmlab')
    assert found['ops'].startswith(('torchvision ', 'compiled'))
    assert found['machine']['threads'] == torch.get_num_threads()
    assert found['folders']['weights'].startswith(torch.hub.get_dir())


class Other:
    """A distribution that somebody has installed too."""

    metadata = {'Name': 'Onedl_MMEngine'}
    version = '9.9.9'


class Stock(Other):
    metadata = {'Name': 'mmengine'}


class Damaged(Other):
    metadata = {'Name': None}


def test_traps_end_in_one(capsys, monkeypatch):
    others = [Other(), Stock(), Damaged()]
    monkeypatch.setattr(
        facts, 'distributions', lambda: [*others, *distributions()]
    )
    monkeypatch.setenv('MMEA_EA_FORM', 'plain')
    code, out = look(capsys)
    assert code == 1
    assert '9.9.9 (onedl-mmengine), 9.9.9\n' in out
    assert 'MMEA_EA_FORM' in out and '  plain\n' in out
    assert (
        'trap: onedl-mmengine, mmengine are installed over each other, under '
        'the same import names\n  pip uninstall -y onedl-mmengine mmengine && '
        'pip install onedl-mmengine==9.9.9\n'
    ) in out


def test_a_broken_package_is_a_row(capsys, monkeypatch):
    real = facts.import_module

    def broken(name):
        if name == 'mmdet.models':
            raise SystemExit('no\nway')
        return real(name)

    monkeypatch.setattr(facts, 'import_module', broken)
    monkeypatch.setattr(facts, 'is_found', lambda name: True)
    code, out = look(capsys)
    assert code == 1
    assert 'cannot be imported: SystemExit: no way\n' in out
    assert 'trap: mmdet cannot be imported: SystemExit: no way\n' in out


def test_without_any_package():
    """Not even rich; -S leaves out all that pip has installed."""
    code = f'import sys; sys.path[:0] = [{str(ROOT)!r}]; import mmea.cli; '
    done = subprocess.run(
        [sys.executable, '-S', '-c', code + 'mmea.cli.main(["env"])'],
        env={'PATH': ''},
        cwd='/',
        capture_output=True,
        text=True,
    )
    assert not done.stderr and not done.returncode
    rows = dict(
        line.split('  ', 1)
        for line in done.stdout.splitlines()
        if '  ' in line
    )
    assert {rows[name].strip() for name in facts.PACKAGES} == {'-'}
    assert rows["mmcv's ops"].strip() == 'none'


class GPU:
    name, total_memory, major, minor = 'X100', 80 * 2**30, 9, 0


def test_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: GPU)
    found = machine.read_machine(torch)
    assert found['gpus'] == ['X100, 80.0 GiB, compute capability 9.0'] * 2
    assert report()['machine']['gpus'] == found['gpus']


@pytest.mark.parametrize('torch_of', [None, torch])
def test_machine_without_torch(torch_of):
    found = machine.read_machine(torch_of)
    assert 1 <= found['cores_usable'] <= found['cores']
    assert 0 < found['memory_free_gib'] <= found['memory_gib']
    assert ('threads' in found) == (torch_of is not None)
