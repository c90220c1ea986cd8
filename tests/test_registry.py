"""What a user without the packages sees, in a Python of its own."""

import json
import subprocess
import sys

CODE = """
import json
import sys

import torch

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    sys.modules[name] = None  # importing it raises an ImportError

from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS

neck = MODELS.build(dict(type='mmea.EANeck', in_channels=[4, 4]))
assert len(neck.attentions) == 2
HOOKS.build(dict(type='mmea.SegLabelCheckHook'))
arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)
net = MODELS.build(dict(type='mmea.EAMLP', arch=arch))
norm_cfg = dict(type='BN')
neck = MODELS.build(
    dict(type='mmea.SimpleFeaturePyramid', in_channels=8, norm_cfg=norm_cfg)
)
widths = [len(x[0]) for x in neck(net(torch.zeros(1, 3, 64, 64)))]
assert widths == [256] * 4, widths

errors = {}
for registry, name in (
    (MODELS, 'EAHead'),
    (MODELS, 'EAFPNHead'),
    (MODELS, 'EAMaskHead'),
    (TRANSFORMS, 'LoadSegAnnotations'),
    (METRICS, 'PresentClassIoUMetric'),
):
    try:
        registry.build(dict(type=f'mmea.{name}'))
    except ImportError as error:
        errors[name] = str(error)
print(json.dumps(errors))
"""


def test_parts_without_their_packages():
    done = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    for name, package in (
        ('EAHead', 'mmseg'),
        ('EAFPNHead', 'mmseg'),
        ('EAMaskHead', 'mmdet'),
        ('LoadSegAnnotations', 'mmseg'),
        ('PresentClassIoUMetric', 'mmseg'),
    ):
        assert errors[name].startswith(
            f'mmea.{name} needs {package}, which cannot'
        )
        assert 'docs/install.md' in errors[name]
