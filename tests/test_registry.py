"""What a user without mmseg sees, in a Python of its own."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules['mmseg'] = None  # importing it raises an ImportError
from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS
neck = MODELS.build(dict(type='mmea.EANeck', in_channels=[4, 4]))
assert len(neck.attentions) == 2
HOOKS.build(dict(type='mmea.SegLabelCheckHook'))
{registry}.build(dict(type='{name}'))
"""


@pytest.mark.parametrize(
    ('registry', 'name'),
    [
        ('MODELS', 'mmea.EAHead'),
        ('MODELS', 'mmea.EAFPNHead'),
        ('TRANSFORMS', 'mmea.LoadSegAnnotations'),
        ('METRICS', 'mmea.PresentIoUMetric'),
    ],
)
def test_part_without_its_package(registry, name):
    code = CODE.format(registry=registry, name=name)
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: {name} needs mmseg, which cannot')
    assert 'docs/install.md' in last
