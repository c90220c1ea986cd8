import importlib

import pytest
import torch

import mmea.ops


def test_torch_that_is_too_old(monkeypatch):
    version = type(torch.__version__)('2.5.1+cpu')
    monkeypatch.setattr(torch, '__version__', version)
    with pytest.raises(ImportError, match=r'2.6 or later, and this is 2.5.1'):
        importlib.reload(mmea.ops)
