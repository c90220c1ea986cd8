"""The scripts that bring published data into the form of the configs."""

import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).resolve().parents[1] / 'tools/dataset_converters'
DATA = os.environ.get('MMEA_DATA', '')


def load(name):
    return runpy.run_path(str(TOOLS / name))


@pytest.fixture
def ccp(tmp_path, monkeypatch):
    """Four images in the form of its repository, of one label each."""
    scipy = pytest.importorskip('scipy.io')
    source = tmp_path / 'source'
    (source / 'photos').mkdir(parents=True)
    (source / 'annotations/pixel-level').mkdir(parents=True)
    classes = load('ccp.py')['CLASSES']
    labels = sorted(name for row in classes for name in row.split())
    labels = ['null', 'bra', *(name for name in labels if name != 'null')]
    cells = np.empty((1, len(labels)), object)
    cells[0, :] = labels
    scipy.savemat(source / 'label_list.mat', dict(label_list=cells))
    for i, label in enumerate(['null', 'bra', 'wallet', 'watch'], 1):
        truth = np.full((9, 5), labels.index(label), np.uint8)
        path = source / f'annotations/pixel-level/000{i}.mat'
        scipy.savemat(path, dict(groundtruth=truth))
        image = np.full((9, 5, 3), 10 * i, np.uint8)
        Image.fromarray(image).save(source / f'photos/000{i}.jpg')
    return source


def run(module, source, out):
    module['main']([str(source), '--out', str(out)])


def test_ccp(ccp, tmp_path):
    module = load('ccp.py')
    module['convert'].__globals__.update(NUM_TEST=1, NUM_VAL=1)
    out = tmp_path / 'out'
    run(module, ccp, out)
    found = {}
    for part in ('train', 'val', 'test'):
        for name in (out / f'{part}.txt').read_text().split():
            label = np.array(Image.open(out / f'ann_dir12/{part}/{name}.png'))
            image = Image.open(out / f'img_dir/{part}/{name}.jpg')
            assert label.shape == (4, 2) and image.size == (2, 4)
            assert np.abs(np.array(image) - 10.0 * int(name)).max() <= 1
            found[name] = part, np.unique(label).tolist()
    # By the MD5 of their names, from the smallest: 0001, 0003, 0004, 0002.
    assert found == {
        '0001': ('test', [0]),
        '0002': ('train', [255]),
        '0003': ('val', [4]),
        '0004': ('train', [11]),
    }


def test_ccp_says_what_it_lacks(ccp, tmp_path, capsys):
    with pytest.raises(SystemExit, match='holds 4 .*expected the 1004'):
        run(load('ccp.py'), ccp, tmp_path / 'out')
    module = load('ccp.py')
    module['convert'].__globals__.update(NUM_TEST=1, NUM_VAL=1)
    (ccp / 'photos/0002.jpg').unlink()
    with pytest.raises(SystemExit, match=r'error: .*0002\.jpg'):
        run(module, ccp, tmp_path / 'out')


@pytest.mark.skipif(not DATA, reason='MMEA_DATA is not set')
def test_ccp_splits_as_the_data_that_results_are_of():
    root = Path(DATA) / 'ccp'
    known = {
        p: (root / f'{p}.txt').read_text().split() for p in ('train', 'val')
    }
    ids = [name for names in known.values() for name in names]
    module = load('ccp.py')
    module['split'].__globals__['NUM_TEST'] = 0  # it is kept apart
    found = module['split'](ids)
    assert {part: found[part] for part in known} == known


def test_camvid(tmp_path):
    source, out = tmp_path / 'CamVid', tmp_path / 'out'
    for part, names in dict(train='ba', val='c', test='d').items():
        for kind in ('', 'annot'):
            (source / f'{part}{kind}').mkdir(parents=True)
        for name in names:
            image = np.full((3, 5, 3), ord(name), np.uint8)
            Image.fromarray(image).save(source / f'{part}/{name}.png')
            label = np.full((3, 5), 11, np.uint8)
            Image.fromarray(label).save(source / f'{part}annot/{name}.png')
    module = load('camvid.py')
    run(module, source, out)
    assert (out / 'train.txt').read_text() == 'a\nb\n'
    for part, name in zip(('train', 'val', 'test'), 'acd'):
        image = np.array(Image.open(out / f'img_dir/{part}/{name}.jpg'))
        assert np.abs(image - float(ord(name))).max() <= 1
        label = np.array(Image.open(out / f'ann_dir/{part}/{name}.png'))
        assert (label == 11).all() and label.shape == (3, 5)
    (source / 'valannot/c.png').unlink()
    with pytest.raises(SystemExit, match='1 images.* 0 labels.*alone are c'):
        run(module, source, out)


def test_bccd(tmp_path):
    source, out = tmp_path / 'BCCD', tmp_path / 'out'
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (source / folder).mkdir(parents=True)
    boxes = [('WBC', 1, 2, 5, 9), ('RBC', 0, 3, 12, 4), ('RBC', 4, 4, 4, 4)]
    edges = ('xmin', 'ymin', 'xmax', 'ymax')
    text = '<a><size><width>11</width><height>9</height></size>'
    for name, *box in boxes:
        text += f'<object><name>{name}</name><bndbox>'
        text += ''.join(f'<{k}>{v}</{k}>' for k, v in zip(edges, box))
        text += '</bndbox></object>'
    for part in ('train', 'val', 'test'):
        (source / f'ImageSets/Main/{part}.txt').write_text(f'{part}0\n')
        (source / f'Annotations/{part}0.xml').write_text(text + '</a>')
        (source / f'JPEGImages/{part}0.jpg').write_bytes(b'as it is')
    module = load('bccd.py')
    run(module, source, out)
    made = json.loads((out / 'annotations/val.json').read_text())
    assert made['images'] == [
        dict(id=1, file_name='val0.jpg', width=11, height=9)
    ]
    assert [(a['category_id'], a['bbox']) for a in made['annotations']] == [
        (2, [0, 1, 5, 8]),
        (1, [0, 2, 11, 2]),
    ]
    assert (out / 'test/test0.jpg').read_bytes() == b'as it is'
    (source / 'Annotations/val0.xml').write_text('<a>')
    with pytest.raises(SystemExit, match='val0.xml'):
        run(module, source, out)
