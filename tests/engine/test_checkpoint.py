import os
from functools import partial
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR, PolyLR, ReduceOnPlateauLR
from mmengine.runner import CheckpointLoader
from mmengine.runner import load_checkpoint as mm_load
from torch import nn

from mmea.engine.checkpoint import (
    check_checkpoint,
    find_checkpoint,
    load_checkpoint,
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

    half = save('iter_30.pth', 4, 0.5)
    last.write_text(half)
    assert find_checkpoint(tmp_path) is None
    older, newer = save('iter_20.pth', 1), save('iter_10.pth', 2)
    save('best_coco_bbox_mAP_iter_20.pth', 5)
    assert find_checkpoint(tmp_path) == newer
    assert f'({half}): taking {newer}' in capsys.readouterr().out
    last.write_text('')  # killed while the name was written
    assert find_checkpoint(tmp_path) == newer
    last.write_text(older)
    assert find_checkpoint(tmp_path) == older
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
