"""Training on real photographs, read from the folder ``MMEA_DATA``."""

import os
import re
from pathlib import Path

import pytest

from mmea import test, train

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get('MMEA_DATA', ROOT.parent / 'shared' / 'data'))

CONFIG = """
from mmengine.config import Config

_base_ = __import__('mmea').config('ea_fpn_ade20k.py')
model = Config.fromfile(__import__('mmea').config(
    '_base_/demo/ea_fpn.py')).model.to_dict()
model['data_preprocessor'] = dict(size=(256, 256))
pipeline = [dict(type='mmea.LoadImage'),
            dict(type='Resize', scale=(256, 256), keep_ratio=False),
            dict(type='mmea.LoadSegAnnotations', reduce_zero_label=True),
            dict(type='PackSegInputs')]
dataset = dict(data_root='{root}', pipeline=pipeline, data_prefix=dict(
    img_path='images/validation', seg_map_path='annotations/validation'))
test_dataloader = dict(dataset=dataset, num_workers=0,
                       persistent_workers=False)
val_dataloader = test_dataloader
# In training the labels are resized with the image.
train_dataloader = dict(
    dataset=dict(dataset, pipeline=[pipeline[0], pipeline[2], pipeline[1],
                                    pipeline[3]]),
    batch_size=3, num_workers=0, persistent_workers=False)
val_evaluator = dict(_delete_=True, type='mmea.PresentIoUMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(_delete_=True, type='OptimWrapper',
                     optimizer=dict(type='AdamW', lr=3e-3))
param_scheduler = [dict(type='OneCycleLR', eta_max=3e-3, total_steps=60,
                        by_epoch=False)]
train_cfg = dict(max_iters=60, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=60), logger=dict(interval=10))
randomness = dict(seed=0)
"""


@pytest.mark.slow
def test_fits_three_photographs_of_ade20k(tmp_path, monkeypatch, run):
    pytest.importorskip('mmseg')
    root = DATA / 'ade20k_sample'
    if not root.is_dir():
        pytest.skip(f'no real data: {root} is missing; set MMEA_DATA')
    monkeypatch.chdir(tmp_path)
    Path('fit.py').write_text(CONFIG.format(root=root))
    run(train.main, 'fit.py', '--work-dir', 'work')
    run(test.main, 'fit.py', 'work/iter_60.pth', '--work-dir', 'test')
    (log,) = Path('test').rglob('*.log')
    accuracy = float(re.findall(r'aAcc: ([\d.]+)', log.read_text())[-1])
    assert accuracy >= 90
