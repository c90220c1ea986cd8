"""Training on real photographs, read from the folder ``MMEA_DATA``."""

import json
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
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(256, 256), keep_ratio=False),
            dict(type='LoadAnnotations'),
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
val_evaluator = dict(_delete_=True, type='mmea.PresentClassIoUMetric')
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


# Without flips and without weight decay: learn them by heart.
DETECTION = """
_base_ = __import__('mmea').config('nwpu/{name}_nwpu-256x256.py')
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(256, 256), keep_ratio=True),
            dict(type='PackDetInputs')]
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='', ann_file='few.json', data_prefix=dict(img='{root}/images')))
train_dataloader = dict(batch_size=4, **loader)
train_dataloader['dataset'] = dict(loader['dataset'], pipeline=pipeline)
val_dataloader = loader
test_dataloader = loader
val_evaluator = dict(ann_file='few.json')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.0))
param_scheduler = [dict(type='OneCycleLR', eta_max=2e-3, total_steps={iters},
                        by_epoch=False)]
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(checkpoint=dict(interval={iters}),
                     logger=dict(interval=20))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'iters'),
    [('ea_mask-rcnn_r18-w32_fpn', 140), ('ea_retinanet_r18-w32_fpn', 140)],
)
def test_detector_learns_16_photographs(
    tmp_path, monkeypatch, run, name, iters
):
    """Nine of the ten classes, external attention behind C4, 256 px."""
    pytest.importorskip('mmdet.models')
    root = DATA / 'nwpu_vhr10'
    if not root.is_dir():
        pytest.skip(f'no real data: {root} is missing; set MMEA_DATA')
    monkeypatch.chdir(tmp_path)
    content = json.loads((root / 'instances_train.json').read_text())
    # The file is ordered by class.
    content['images'] = content['images'][:: len(content['images']) // 16][:16]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [
        a for a in content['annotations'] if a['image_id'] in ids
    ]
    Path('few.json').write_text(json.dumps(content))
    Path('learn.py').write_text(
        DETECTION.format(name=name, root=root, iters=iters)
    )
    run(train.main, 'learn.py', '--work-dir', 'work')
    (log,) = Path('work').rglob('*.log')
    found = re.findall(r'coco/bbox_mAP_50: ([\d.]+)', log.read_text())
    assert float(found[-1]) >= 0.5
