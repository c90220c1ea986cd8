import os
import subprocess
import sys
import zipfile
from functools import partial
from pickle import UnpicklingError
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR, PolyLR, ReduceOnPlateauLR
from mmengine.runner import CheckpointLoader
from mmengine.runner import load_checkpoint as mm_load
from torch import nn

from mmea import safe_loading
from mmea.engine.checkpoint import (
    check_checkpoint,
    find_checkpoint,
    load_checkpoint,
    resolve_resume,
)
from mmea.errors import UserError


class Command:
    """Unpickling it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Attribute:
    """Unpickling it takes an attribute of a class that may be loaded."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


class Method(Attribute):
    def __reduce__(self):
        return getattr, (HistoryBuffer, 'mean')


def test_no_code_of_the_file_is_executed(tmp_path, safe, monkeypatch):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    state = nn.Linear(2, 2).state_dict()
    torch.save(dict(state_dict=state, meta=Command(f'touch {mark}')), path)
    with pytest.raises(
        UserError, match=r'evil.pth.* asks for \S+system.*nothing in it was'
    ):
        load_checkpoint(path)
    # The way of init_model, init_cfg and the Runner.
    with pytest.raises(UserError, match='evil.pth'):
        mm_load(nn.Linear(2, 2), str(path))
    # That of a download, which asks torch itself.
    with pytest.raises(UnpicklingError, match='Weights only load failed'):
        torch.load(path, weights_only=False)
    assert not mark.exists()
    # The file does what the test believes.
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_getattr_is_not_let_in(tmp_path):
    path = tmp_path / 'attribute.pth'
    torch.save(dict(x=Attribute()), path)
    with pytest.raises(UserError, match="'__init__'"):
        load_checkpoint(path)
    torch.save(dict(x=Method()), path)
    assert load_checkpoint(path)['x'] is HistoryBuffer.mean


def test_the_log_history_comes_back(tmp_path, safe):
    hub = MessageHub.get_instance('test_the_log_history')
    for value in (1.0, np.float32(2.0).item(), 4.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', np.int64(3))
    hub.update_info('name', 'x')
    path = tmp_path / 'log.pth'
    torch.save(
        dict(
            message_hub=hub.state_dict(),
            meta=dict(config='raise SystemExit', iter=3, seed=np.float64(0.5)),
            array=np.arange(6.0).reshape(2, 3),
            names=np.array(['a', 'bc']),
        ),
        path,
    )
    got = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    other = MessageHub.get_instance('test_the_log_history_2')
    other.load_state_dict(got['message_hub'])
    buffer = other.get_scalar('train/loss')
    assert buffer.data[0].tolist() == [1.0, 2.0, 4.5]
    assert buffer.mean() == 2.5 and buffer.statistics('max') == 4.5
    assert other.get_info('iter') == 3
    # Runner.resume() would execute this text.
    assert got['meta'] == dict(iter=3, seed=0.5)
    assert np.array_equal(got['array'], np.arange(6.0).reshape(2, 3))
    assert got['names'].tolist() == ['a', 'bc']


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match='no such checkpoint: .*none.pth'):
        load_checkpoint(tmp_path / 'none.pth')
    path = tmp_path / 'cut.pth'
    torch.save(nn.Linear(20, 20).state_dict(), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match='cut.pth.*damaged'):
        load_checkpoint(path)


def test_what_would_be_executed_is_left_out(tmp_path):
    """Runner.resume() and the inferencers execute these texts."""
    path = tmp_path / 'x.pth'
    text = 'raise SystemExit'
    info = dict(cfg=text, iter=3)
    torch.save(
        dict(
            meta=dict(config=text, cfg=text, iter=3),
            message_hub=dict(runtime_info=info),
        ),
        path,
    )
    assert load_checkpoint(path) == dict(
        meta=dict(iter=3), message_hub=dict(runtime_info=dict(iter=3))
    )


@pytest.mark.parametrize(
    'value, message',
    [
        ([1], 'it is a list where a dict'),
        (torch.ones(2), 'it is a Tensor'),
        (dict(meta=None), "its 'meta' is a NoneType"),
        (dict(state_dict=[1]), "its 'state_dict' is a list"),
        (dict(state_dict=dict(a='x')), "'a' of its 'state_dict' is a str"),
        (dict(state_dict={1: torch.ones(1)}), 'the entry 1 of its'),
    ],
)
def test_another_form(value, message, tmp_path):
    torch.save(value, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path / 'x.pth')


def test_a_file_that_would_unpack_to_more_is_not_unpacked(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(a=torch.zeros(1_000_000)), path)
    with zipfile.ZipFile(path) as old:
        with zipfile.ZipFile(
            tmp_path / 'y.pth', 'w', zipfile.ZIP_DEFLATED
        ) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    load_checkpoint(path)
    with pytest.raises(UserError, match='unpack to 0.0 GB, more than it has'):
        load_checkpoint(tmp_path / 'y.pth')


LOADER = """
import sys
import {first}
import {second}
from mmengine.runner import load_checkpoint
from torch import nn
try:
    load_checkpoint(nn.Linear(2, 2), sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    'first, second', [('mmea', 'torch'), ('mmengine.runner', 'mmea')]
)
def test_mmengine_by_itself(first, second, tmp_path):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    torch.save(dict(meta=Command(f'touch {mark}'), state_dict={}), path)
    code = LOADER.format(first=first, second=second)
    done = subprocess.run(
        [sys.executable, '-c', code, str(path)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith('UserError') and not mark.exists()
    text = done.stdout + done.stderr
    assert text.count('without executing code') == 1


def test_safe_loading_can_be_undone(monkeypatch):
    for variable, change in (('0', False), ('1', True)):
        monkeypatch.setenv('MMEA_SAFE_LOADING', variable)
        module = SimpleNamespace(CheckpointLoader=CheckpointLoader)
        monkeypatch.setitem(sys.modules, safe_loading._MODULE, module)
        monkeypatch.setattr(
            CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy()
        )
        safe_loading.install()
        assert hasattr(module, 'load_from_http') is change


def test_find_checkpoint(tmp_path, capsys):
    """What a killed run leaves is passed over."""
    last = tmp_path / 'last_checkpoint'
    assert find_checkpoint(tmp_path) is None

    def save(name, time, part=1.0):
        path = tmp_path / name
        torch.save(nn.Linear(20, 20).state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(part * len(content))])
        os.utime(path, (time, time))
        return str(path)

    def spoil(name, time):
        """One byte of the weights has changed; the directory is whole."""
        path = tmp_path / name
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            entry = max(archive.infolist(), key=lambda e: e.file_size)
        middle = entry.header_offset + 200 + entry.file_size // 2
        byte = bytes([content[middle] ^ 255])
        path.write_bytes(content[:middle] + byte + content[middle + 1 :])
        os.utime(path, (time, time))

    half = save('iter_30.pth', 4, 0.5)
    last.write_text(half)
    assert find_checkpoint(tmp_path) is None
    older, newer = save('iter_20.pth', 1), save('iter_10.pth', 2)
    save('best_coco_bbox_mAP_iter_20.pth', 5)
    assert find_checkpoint(tmp_path) == newer
    assert f'({half}): taking {newer}' in capsys.readouterr().out
    last.write_text('')  # killed while the name was written
    assert find_checkpoint(tmp_path) == newer
    last.write_bytes(b'\xff\0\xfe')  # a block that never reached the disk
    assert find_checkpoint(tmp_path) == newer
    last.write_text(older)
    assert find_checkpoint(tmp_path) == older
    last.write_text(save('iter_35.pth', 6))
    spoil('iter_35.pth', 6)
    assert find_checkpoint(tmp_path) == newer
    folder = tmp_path / 'iter_40.pth'  # of DeepSpeed
    folder.mkdir()
    last.write_text(str(folder))
    assert find_checkpoint(tmp_path) == str(folder)


def test_check_checkpoint(tmp_path):
    path = tmp_path / 'linear.pth'
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    torch.save(dict(state_dict=model.state_dict()), path)
    check_checkpoint(model, path, partial=False)
    # As DDP saves it.
    torch.save({f'module.{k}': v for k, v in model.state_dict().items()}, path)
    check_checkpoint(model, path, partial=False)

    wider = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    with pytest.raises(
        UserError,
        match=r'2 differ in shape \(such as 1.weight: \(4, 3\) in the file, '
        r'\(5, 3\) in the model\); use the config',
    ):
        check_checkpoint(wider, path, partial=False)
    check_checkpoint(wider, path, partial=True)  # fine-tuning: a new head

    longer = nn.Sequential(*model, nn.Linear(4, 4))
    with pytest.raises(UserError, match=r'2 of 6 entries are missing .*2\.w'):
        check_checkpoint(longer, path, partial=False)
    with pytest.raises(UserError, match='another architecture'):
        check_checkpoint(nn.Conv2d(2, 3, 1), path, partial=True)


def resumable(**changes) -> dict:
    checkpoint = dict(
        state_dict=nn.Linear(2, 2).state_dict(),
        optimizer={},
        meta=dict(epoch=1, iter=np.int64(7)),
    )
    checkpoint['meta'] |= changes.pop('meta', {})
    checkpoint |= changes
    return {k: v for k, v in checkpoint.items() if v is not None}


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(state_dict=None), 'has no state_dict: nothing to resume'),
        (dict(optimizer=None), 'has no optimizer: nothing to resume'),
        (dict(meta=dict(iter='x')), "meta.iter='x', which is no number"),
        (dict(meta=dict(iter=-5)), 'meta.iter=-5'),
        (dict(meta=dict(iter=10**9)), 'iter 1000000000, beyond .*max_iters=9'),
        (
            dict(state_dict=dict(weight=torch.full((2, 2), float('nan')))),
            r'holds NaN in 1 of 2 entries \(such as weight\)',
        ),
    ],
)
def test_what_cannot_be_resumed(changes, message, tmp_path):
    path = tmp_path / 'x.pth'
    model, train_cfg = nn.Linear(2, 2), dict(max_iters=9)
    torch.save(resumable(), path)
    check_checkpoint(model, path, partial=False, train_cfg=train_cfg)
    torch.save(resumable(**changes), path)
    with pytest.raises(UserError, match=message):
        check_checkpoint(model, path, partial=False, train_cfg=train_cfg)


@pytest.mark.parametrize(
    'resume, load_from, option, there, want',
    [
        (False, None, None, True, (False, None)),
        (False, 'a.pth', None, True, (False, 'a.pth')),
        (True, None, None, True, (True, 'latest')),
        (True, None, None, False, (False, None)),
        (True, 'a.pth', None, True, (True, 'a.pth')),
        (False, 'a.pth', 'auto', True, (True, 'latest')),
        (False, 'a.pth', 'auto', False, (False, 'a.pth')),  # not lost
        (False, 'a.pth', 'b.pth', True, (True, 'b.pth')),
    ],
)
def test_resolve_resume(resume, load_from, option, there, want, tmp_path):
    latest = str(tmp_path / 'iter_2.pth')
    if there:
        torch.save({}, latest)
    cfg = Config(
        dict(resume=resume, load_from=load_from, work_dir=str(tmp_path))
    )
    resolve_resume(cfg, option)
    found = latest if want[1] == 'latest' else want[1]
    assert (cfg.resume, cfg.load_from) == (want[0], found)


@pytest.mark.parametrize(
    'scheduler',
    [
        partial(OneCycleLR, eta_max=0.1, total_steps=10),
        partial(PolyLR, end=5),
        partial(ReduceOnPlateauLR, monitor='loss'),
    ],
)
def test_schedulers_come_back(tmp_path, scheduler):
    path = tmp_path / 'scheduler.pth'
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
    state = scheduler(optimizer).state_dict()
    torch.save(dict(param_schedulers=[state]), path)
    got = load_checkpoint(path)['param_schedulers'][0]
    other = scheduler(optimizer)
    other.load_state_dict(got)
    assert other.state_dict() == state
