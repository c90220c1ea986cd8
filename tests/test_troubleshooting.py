"""Each error of docs/troubleshooting.md, provoked, has the words quoted."""

import errno
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import Registry
from torch import nn

import mmea.ops
from mmea import completion
from mmea.engine import preflight, runner
from mmea.engine.checkpoint import (
    check_checkpoint,
    load_checkpoint,
    pick_checkpoint,
)
from mmea.engine.lock import lock_folder
from mmea.errors import UserError
from mmea.export import segmentor, writer
from mmea.mmcv_ops import torchvision_ops
from mmea.mmcv_ops.missing import missing_op
from mmea.publish.weights import to_half
from mmea.registry import register_missing

from .engine.conftest import fails  # noqa: F401
from .engine.hooks.test_finite_loss_hook import Training
from .engine.test_checkpoint import Command

PAGE = Path(__file__).parents[1] / 'docs' / 'troubleshooting.md'
QUOTES = re.findall(r'^### `(.*)`$', PAGE.read_text('utf-8'), re.M)
DATA = Path('data')


class Case(SimpleNamespace):
    """What a cause works with: monkeypatch, and to train the config tiny.py.

    ``fails(*args)`` trains it and returns the error's text.
    """

    def option(self, text):
        return self.fails('--cfg-options', text)


CAUSES = {}


def cause(quote):
    """Register who provokes an error: by raising it, or returning its text."""

    def register(function):
        assert quote not in CAUSES
        CAUSES[quote] = function
        return function

    return register


def by_option(quote, option):
    cause(quote)(lambda case: case.option(option))


def no_import(case, module, **error):
    """Let preflight find that a package cannot be imported."""
    real = importlib.import_module

    def absent(wanted, *args):
        if wanted == module:
            raise ModuleNotFoundError('No module named X', **error)
        return real(wanted, *args)

    case.monkeypatch.setattr(importlib, 'import_module', absent)


@cause('mmea needs torch 2.6 or later, and this is ...')
def old_torch(case):
    case.monkeypatch.setattr(torch, '__version__', '2.1.2')
    importlib.reload(mmea.ops)


@cause(
    'mmcv has no compiled ops, and torchvision, whose ops can take their '
    'place, is missing'
)
def no_torchvision(case):
    case.monkeypatch.setitem(sys.modules, 'torchvision', None)
    torchvision_ops._load()


@cause('mmcv has no compiled ops, and torchvision does not fit torch ...')
def another_torchvision(case):
    class Finder:
        def find_spec(name, *args):
            if name == 'torchvision':
                raise RuntimeError('operator torchvision::nms does not exist')

    case.monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
    case.monkeypatch.setattr(sys, 'meta_path', [Finder, *sys.meta_path])
    torchvision_ops._load()


@cause("mmcv's compiled ops do not fit torch ...")
def other_ops(case):
    no_import(case, 'mmdet.models', name='mmcv._ext', path='x.so')
    preflight.check_packages(dict(default_scope='mmdet'))


@cause("mmcv's op ... is not among those that torchvision can do")
def uncovered(case):
    missing_op('masked_im2col_forward')()


@cause(
    "the config needs mmdet (default_scope='mmdet'), which cannot be imported"
)
def no_mmdet(case):
    no_import(case, 'mmdet.models')
    preflight.check_packages(dict(default_scope='mmdet'))


@cause('mmea.EAHead needs mmseg, which cannot be imported')
def no_mmseg(case):
    parts = register_missing(
        Registry('x'), ['EAHead'], 'mmseg', ImportError('none')
    )
    parts[0]()


@cause('mmea completion needs the package shtab')
def no_shtab(case):
    case.monkeypatch.setitem(sys.modules, 'shtab', None)
    completion.completion('bash')


@cause('Ran out of input')
def half_written_grammar(case):
    from yapf_third_party._ylib2to3.pgen2 import driver

    Path('grammar.pickle').touch()
    driver.load_grammar(driver.__file__, 'grammar.pickle')


@cause('NoneType takes no arguments')
def new_transformers(case):
    missing = None  # what transformers no longer has
    try:

        class Model(missing):
            pass
    except TypeError as error:  # of mmpretrain, where it is imported
        return str(error)


@cause('no config file ..., and mmea ships no config')
def no_config(case):
    return case.fails(config='nothing.py')


@cause('cannot read the config ...')
def broken_config(case):
    Path('broken.py').write_text('model = dict(')
    return case.fails(config='broken.py')


by_option('--cfg-options ...: ... has no key', 'modle.backbone.depth=18')
by_option(
    '--cfg-options ...: what ... computes from ... is computed before options '
    'are set',
    'data_root=x',
)
by_option('... is not in the ... registry', 'param_scheduler.0.type=Poly')
by_option('got an unexpected keyword argument', 'optim_wrapper.optimizer.mu=1')
by_option(
    'optim_wrapper.optimizer.type=... is not registered',
    'optim_wrapper.optimizer.type=Addam',
)


@cause('has no demo: it lacks the keys demo_data and demo_model')
def no_demo(case):
    Path('own.py').write_text("default_scope = 'mmseg'")
    return case.fails('--demo', config='own.py')


@cause('nothing was swapped in this model')
def nothing_to_swap(case):
    return case.fails('--swap-attention', 'mmea.NonLocal2d')


by_option(
    'the data set folder ... is missing',
    'train_dataloader.dataset.data_root=nowhere',
)


@cause('... of the ... files of ... are not there')
def no_label(case):
    (DATA / 'annotations/training/1.png').unlink()
    return case.fails()


@cause('... files that cannot be decoded')
def no_picture(case):
    (DATA / 'images/training/1.jpg').write_bytes(b'no picture')
    return case.fails()


def write_label(labels):
    cv2.imwrite(str(DATA / 'annotations/training/1.png'), labels)


@cause('images of another size (H, W) than their labels')
def other_size(case):
    write_label(np.ones((16, 24), np.uint8))
    return case.fails()


@cause('it must have one, of class ids')
def colours(case):
    write_label(np.ones((32, 48, 3), np.uint8))
    return case.fails()


@cause('holds the ids ..., outside the ... classes')
def wrong_ids(case):
    write_label(np.full((32, 48), 200, np.uint8))
    return case.fails()


by_option(
    'decode_head.num_classes is ..., the data set has ... classes',
    'model.decode_head.num_classes=7',
)


@cause('cannot write to the work dir')
def in_the_way(case):
    Path('file').touch()
    return case.fails('--work-dir', 'file/work')


@cause('another training works in ...')
def twice(case):
    # tests/engine/test_lock.py has another process hold it.
    def held(*args):
        raise BlockingIOError

    case.monkeypatch.setattr('fcntl.lockf', held)
    lock_folder('.', 'training')


by_option(
    'default_hooks.checkpoint.interval=... would save no checkpoint',
    'default_hooks.checkpoint.interval=0',
)


@cause('the loss is nan at iteration ...')
def diverged(case):
    Training().step(float('nan'))


@cause('--launcher ... without a GPU: only torchrun starts processes on CPUs')
def slurm(case):
    case.monkeypatch.setattr(preflight, 'get_device', lambda: 'cpu')
    return case.fails('--launcher', 'slurm')


@cause('a worker of a data loader was killed')
def killed(case):
    # torch's words; tests/test_train.py kills one.
    text = 'DataLoader worker (pid 7) is killed by signal: Killed. '
    runner._check_machine(RuntimeError(text), 'work')


@cause('no room on the disk, or the file cannot be written')
def full_disk(case):
    runner._check_machine(OSError(errno.ENOSPC, 'No space left'), 'work')


@cause('no checkpoint in ...: name one after the config, or train first')
def untrained(case):
    pick_checkpoint('work_dirs/x')


@cause('Weights only load failed')
def as_torch_loads(case):
    torch.save(dict(message_hub=HistoryBuffer()), 'x.pth')
    torch.load('x.pth', weights_only=True)


@cause(
    '... asks for ..., which mmea does not let in; nothing in it was executed'
)
def evil(case):
    torch.save(dict(meta=Command('true')), 'x.pth')
    load_checkpoint('x.pth')


def checked(model, state, **options):
    torch.save(dict(state_dict=state, meta=dict(epoch=0, iter=1)), 'x.pth')
    check_checkpoint(model, 'x.pth', partial=False, **options)


@cause('is of another architecture')
def other_net(case):
    checked(nn.Linear(2, 3), nn.Linear(2, 2).state_dict())


@cause('has no optimizer: nothing to resume')
def weights_alone(case):
    model = nn.Linear(2, 2)
    checked(model, model.state_dict(), train_cfg=dict(max_iters=9))


@cause('holds NaN in ... of ... entries')
def nan(case):
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, float('nan'))
    checked(model, model.state_dict())


@cause('--out must end in .onnx or .pt2')
def no_graph(case):
    writer.write(nn.Identity(), 'a.pb')


@cause('--out FILE.onnx needs ...: pip install "mmea[export]"')
def no_onnx(case):
    case.monkeypatch.setattr(writer, 'find_spec', lambda name: None)
    writer.write(nn.Identity(), 'a.onnx')


@cause('cannot export a ...: graphs are made of segmentors')
def no_segmentor(case):
    writer.make_graph(nn.Identity())


@cause('model.test_cfg.mode is slide, and a graph has no windows')
def windows(case):
    model = nn.Sequential()
    model.backbone = model.data_preprocessor = nn.Identity()
    model.test_cfg = dict(mode='slide', crop_size=(64, 64))
    segmentor.SegmentorGraph(model)


@cause('--half: ... has numbers up to ..., and float16 ends at 65504')
def too_large(case):
    to_half({'a': torch.tensor([7e4])})


@pytest.mark.parametrize('quote', QUOTES)
def test_entry(quote, fails, monkeypatch):  # noqa: F811
    assert quote in CAUSES, 'no cause of this entry is known'
    words = r'.+'.join(map(re.escape, quote.split('...')))
    case = Case(fails=fails, monkeypatch=monkeypatch)
    try:
        text = CAUSES[quote](case)
    except Exception as error:
        # Of the kinds that a person meets, not a fault of the cause.
        assert isinstance(error, (UserError, ImportError, EOFError)) or (
            type(error).__name__ == 'UnpicklingError'
        )
        text = str(error)
    assert re.search(words, ' '.join(text.split()) + ' ')


def test_every_cause_has_an_entry():
    assert set(CAUSES) == set(QUOTES)
    assert len(QUOTES) == len(set(QUOTES))
