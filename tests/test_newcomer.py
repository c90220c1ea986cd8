"""From photographs in a folder to a published model, as the README tells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmea
from mmea.cli import main
from mmea.datasets.coco_masks import coco_to_masks

from .test_real_data import DATA

SCRATCH = '--cfg-options', 'model.backbone.init_cfg=None'


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """60 aerial photographs with masks, in folders of somebody's own."""
    root = DATA / 'nwpu_vhr10'
    if not root.is_dir():
        pytest.skip(f'no real data: {root} is missing; set MMEA_DATA')
    pytest.importorskip('mmseg')
    monkeypatch.chdir(tmp_path)
    coco = json.loads((root / 'instances_train.json').read_text())
    coco['images'] = coco['images'][:60]
    kept = {image['id'] for image in coco['images']}
    coco['annotations'] = [
        a for a in coco['annotations'] if a['image_id'] in kept
    ]
    Path('mine/photos').mkdir(parents=True)
    Path('mine/objects.json').write_text(json.dumps(coco))
    for image in coco['images']:
        name = image['file_name']
        shutil.copy(root / 'images' / name, 'mine/photos')
    unseen = json.loads((root / 'instances_val.json').read_text())['images']
    Path('unseen').mkdir()
    for image in unseen[:3]:
        shutil.copy(root / 'images' / image['file_name'], 'unseen')
    return coco


def published_labels(folder, photo):
    """Of a process that has nothing else."""
    code = (
        'import mmea, numpy, sys\n'
        'model = mmea.load(sys.argv[1], device="cpu")\n'
        'labels = model.predict(sys.argv[2]).pred_sem_seg.data[0]\n'
        'numpy.save("labels.npy", labels.numpy())\n'
    )
    env = dict(os.environ, PYTHONPATH=str(Path(mmea.__file__).parents[1]))
    command = [sys.executable, '-c', code, str(folder), str(photo)]
    subprocess.run(command, check=True, env=env)
    return np.load('labels.npy')


@pytest.mark.slow
@pytest.mark.long
def test_from_masks_to_a_published_model(photos):
    classes = coco_to_masks('mine/objects.json', 'mine/masks')['classes']
    names = [name.replace(' ', '_') for name in classes]
    main(['new', 'mine', '--images', 'mine/photos', '--masks', 'mine/masks',
          '--max-iters', '200', '--classes', *names,
          '--out', 'aerial.py'])  # fmt: skip
    main(['check-data', 'aerial.py'])
    assert Path('work_dirs/aerial/data.png').is_file()
    main(['train', 'aerial.py', *SCRATCH])
    (best,) = Path('work_dirs/aerial').glob('best_mIoU_iter_*.pth')
    main(['predict', 'aerial.py', 'unseen', '--out', 'found'])
    photo = sorted(Path('unseen').iterdir())[0]
    label = np.array(Image.open(f'found/labels/{photo.stem}.png'))
    assert len(list(Path('found/overlays').iterdir())) == 3
    main(['export', 'aerial.py', '--out', 'aerial.onnx'])
    assert Path('aerial.onnx').stat().st_size > 1e6
    main(['publish', 'aerial.py', '--out', 'published'])
    assert np.array_equal(published_labels('published', photo), label)


@pytest.mark.slow
@pytest.mark.long
def test_from_a_coco_file_to_masks_of_objects(photos):
    pytest.importorskip('mmdet')
    main(['new', 'mine/objects.json', '--images', 'mine/photos',
          '--out', 'objects.py'])  # fmt: skip
    main(['check-data', 'objects.py'])
    main(['train', 'objects.py', *SCRATCH, 'train_cfg.max_iters=20',
          'train_cfg.val_interval=20'])  # fmt: skip
    main(['predict', 'objects.py', 'unseen', '--score-thr', '0',
          '--out', 'found'])  # fmt: skip
    found = json.loads(Path('found/predictions.json').read_text())
    assert len(found['images']) == 3
    assert [c['name'] for c in found['categories']] == [
        c['name'] for c in photos['categories']
    ]
    main(['publish', 'objects.py', '--out', 'published'])
    model = mmea.load('published', device='cpu')
    for image in found['images']:
        sample = model.predict(Path('unseen', image['file_name']))
        own = [a for a in found['annotations'] if a['image_id'] == image['id']]
        assert len(own) == len(sample.pred_instances)
