"""The examples in docstrings run as they stand."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import mmea

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = [
    path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')
    for path in sorted((ROOT / 'mmea').rglob('*.py'))
    if '>>> ' in path.read_text('utf-8')
]


@pytest.mark.parametrize('name', WITH_EXAMPLES)
def test_examples(name):
    module = import_module(name.removesuffix('.__init__'))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried and not failed


def test_every_layer_has_an_example():
    without = [
        name
        for name in mmea.list_attentions()
        if '>>> ' not in getattr(mmea, name).__doc__
    ]
    assert not without
