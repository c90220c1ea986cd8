"""mmcv._ext as it is found, and by whom."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import mmcv
import pytest
import torch
from torch import nn

import mmea.mmcv_ops
from mmea.errors import UserError
from mmea.mmcv_ops import ext
from mmea.mmcv_ops.missing import MissingOp

ROOT = Path(__file__).resolve().parents[2]
ABSENT = 'import sys; sys.modules["torchvision"] = None; '


def python(code, cwd=ROOT, **env):
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_finder_stands_last_and_once():
    mmea.mmcv_ops.install()
    ours = [f for f in sys.meta_path if f.__module__ == 'mmea.mmcv_ops']
    assert len(ours) == 1
    assert ours[0].find_spec('mmcv._ex') is None
    assert ours[0].find_spec('other._ext') is None
    before = sys.meta_path.index(ours[0])
    assert importlib.machinery.PathFinder in sys.meta_path[:before]


def test_compiled_ops_are_found_first(tmp_path, monkeypatch):
    (tmp_path / '_ext.py').touch()
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path)])
    # A name in sys.modules is answered from there.
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    found = importlib.util.find_spec('mmcv._ext')
    assert found.origin == str(tmp_path / '_ext.py')


def test_every_name_that_mmcv_asks_for_is_there():
    """And those with an implementation have no other signature."""
    assert callable(ext.carafe_forward)
    with pytest.raises(AttributeError):
        ext.__wrapped__  # noqa: B018
    for name in ext.__all__:
        assert getattr(ext, name).__module__ != 'mmea.mmcv_ops.missing'


def test_environment_is_collected():
    from mmcv.utils import collect_env

    if not importlib.import_module('mmcv._ext').__file__.endswith('.py'):
        pytest.skip('the ops of this mmcv are compiled')
    env = collect_env()
    assert 'ops of torchvision 0.' in env['MMCV Compiler']
    cuda = torch.version.cuda or 'not available'
    assert env['MMCV CUDA Compiler'] == cuda


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        from mmcv.ops import MaskedConv2d

        self.conv = MaskedConv2d(3, 3, 3)

    def forward(self, x):
        return self.conv(x, torch.ones(1, 4, 4))


def test_an_op_that_is_not_covered(monkeypatch):
    """It names itself, who asked, and the way out."""
    from mmcv.ops import masked_conv2d

    monkeypatch.setitem(
        masked_conv2d.__self__.forward.__globals__, 'ext_module', ext
    )
    with pytest.raises(MissingOp) as error:
        Detector().eval()(torch.zeros(1, 3, 4, 4))
    message = str(error.value)
    assert "mmcv's op masked_im2col_forward" in message
    assert 'mmcv.ops.masked_conv in MaskedConv2d in Detector' in message
    assert 'MMCV_WITH_OPS=1 pip install' in message
    assert f'=={mmcv.__version__} ' in message
    assert issubclass(MissingOp, UserError)  # one line in a command


@pytest.mark.parametrize(
    ('broken', 'words'),
    [
        (ABSENT, 'torchvision, whose ops can take their place, is missing'),
        (
            'import builtins; real = builtins.__import__\n'
            'def other(name, *a, **k):\n'
            '    if name == "torchvision":\n'
            '        raise RuntimeError("operator torchvision::nms")\n'
            '    return real(name, *a, **k)\n'
            'builtins.__import__ = other; ',
            f'torchvision does not fit torch {torch.__version__.split("+")[0]}'
            ' (operator torchvision::nms)',
        ),
    ],
)
def test_torchvision_that_is_not_of_use(broken, words):
    code = f'{broken}import mmea, torch, importlib; import mmea.mmcv_ops.ext'
    done = python(code)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ModuleNotFoundError: mmcv has no compiled ops')
    assert words in last
    release = torch.__version__.split('+')[0]
    major, minor, patch = release.split('.')
    pair = f'torch=={release} torchvision==0.{int(minor) + 15}.{patch}'
    assert last.endswith(f'install the pair: pip install {pair}')


def test_segmentation_does_without_torchvision():
    """Where mmseg can: that of the onedl distribution."""
    pytest.importorskip('mmseg')
    from importlib.metadata import distributions

    names = {d.name for d in distributions()}
    if 'onedl-mmsegmentation' not in names:
        pytest.skip('the stock mmseg imports the ops without asking')
    done = python(ABSENT + 'import mmea, mmseg.models; print("fine")')
    assert 'fine' in done.stdout, done.stderr


def test_said_once():
    """By a script that imports mmea before mmdet; from rank 0 alone."""
    pytest.importorskip('mmdet.models')
    code = 'import mmea, mmdet.models, mmcv.ops.nms; print(mmcv._ext.nms)'
    for rank, times in [('0', 1), ('1', 0)]:
        done = python(code, RANK=rank)
        assert ' nms ' in done.stdout, done.stderr
        said = done.stderr.count('mmcv has no compiled ops: ops of torchvi')
        compiled = 'built-in' in done.stdout
        assert said == (0 if compiled else times)
