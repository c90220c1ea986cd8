"""What mmea check-data counts and draws."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmea.engine.config import load_config
from mmea.errors import UserError
from mmea.files import write_text
from mmea.new import draw_sheet, look_at, new_detection, new_segmentation

from .conftest import write_pair


def write(project):
    for path, text in project.files.items():
        write_text(path, text)


@pytest.fixture
def seg(folder):
    write_pair(folder, 'images/0.jpg', 'masks/0.png', (0, 1, 1, 255))
    write(new_segmentation('data', Path('my.py'), classes=['a', 'b', 'c']))
    return load_config('my.py')


def test_pixels(seg):
    (train, first), (val, second) = look_at(seg)
    assert (len(train), len(val)) == (8, 2) == (first.images, second.images)
    assert first.name == 'train_dataloader.dataset'
    assert first.sizes == [(40, 64)] * 8
    half = 40 * 32
    total = [first.counts[c] + second.counts[c] for c in 'abc']
    assert total == [9.5 * half, 10 * half, 0]
    assert first.warnings == [
        "1 of the 3 classes do not occur in the data: 'c'"
    ]
    # Nothing is cropped or flipped.
    assert train[0]['data_samples'].gt_sem_seg.shape == (40, 64)


def test_ids_of_no_class(seg):
    write_pair(Path('data'), 'images/1.jpg', 'masks/1.png', (0, 7))
    warnings = [w for _, s in look_at(seg) for w in s.warnings]
    assert 'ids outside the 3 classes: 7' in warnings


def test_reduced_labels_are_counted_as_they_are_learnt(seg):
    for loader in (seg.train_dataloader, seg.val_dataloader):
        loader.dataset.reduce_zero_label = True
    (_, first), _, *_ = look_at(seg)
    assert first.counts['a'] > 0 == first.counts['b']


def test_each_part_of_a_concatenation(seg):
    part = seg.train_dataloader.dataset
    seg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, dict(part, indices=2)]
    )
    names = {s.name: s.images for _, s in look_at(seg)}
    assert names == {
        'train_dataloader.dataset.datasets.0': 8,
        'train_dataloader.dataset.datasets.1': 2,
        'val_dataloader.dataset': 2,
    }


def test_clouds_have_no_pipeline():
    cfg = load_config('pct/pct_1xb32-250e_modelnet40-1024.py')
    with pytest.raises(UserError, match='mmea.ModelNet, which takes no pipe'):
        next(look_at(cfg))


def test_boxes(coco):
    write(new_detection(str(coco), Path('my.py')))
    (train, first), (_, second) = look_at(load_config('my.py'))
    assert first.counts['cat'] + second.counts['cat'] == 19
    assert first.counts['dog'] + second.counts['dog'] == 1
    assert (first.unit, first.read, len(train)) == ('boxes', 8, 8)
    assert first.sizes == [(48, 64)] * 8


def test_sheet(seg, tmp_path):
    built = [(s.name, dataset) for dataset, s in look_at(seg)]
    draw_sheet(built, tmp_path / 'a.png', 2)
    sheet = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_COLOR_RGB)
    # The colours of the classes that occur, as the config has them.
    for colour in seg.palette[:2]:
        assert (np.abs(sheet - np.array(colour)).max(-1) == 0).mean() > 0.01


def test_sheet_of_boxes(coco, tmp_path):
    write(new_detection(str(coco), Path('my.py')))
    built = [(s.name, d) for d, s in look_at(load_config('my.py'))]
    draw_sheet(built, tmp_path / 'a.png', 3)
    assert cv2.imread(str(tmp_path / 'a.png')).std() > 5
