"""Each model of the zoo has the figures of its card."""

import json
import os
import re
from pathlib import Path

import pytest

from mmea import load, test

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get('MMEA_DATA', ROOT.parent / 'shared' / 'data'))
#: Model: config of its training, whose data lie in the folder of its name.
MODELS = {
    'ea-fpn_mobilenet-v2_ccp': ('ccp/ea_fpn_mobilenet-v2_1xb4_ccp-320x240.py'),
    'ea-retinanet_mobilenet-v2_bccd': (
        'bccd/ea_retinanet_mobilenet-v2_fpn_1xb4_bccd-320x240.py'
    ),
}


def test_every_model_is_tested():
    assert {p.parent.name for p in ROOT.glob('zoo/*/config.py')} == set(MODELS)


@pytest.mark.parametrize('name', MODELS)
def test_files(name):
    sizes = {f.name: f.stat().st_size for f in (ROOT / 'zoo' / name).iterdir()}
    assert set(sizes) == {f'{name}.safetensors', 'config.py', 'README.md'}
    assert sizes[f'{name}.safetensors'] < 8e6


@pytest.mark.parametrize('name', MODELS)
def test_figure_of_ten_images(name, tmp_path, monkeypatch, run):
    config = MODELS[name]
    folder = config.partition('/')[0]
    pytest.importorskip('mmdet' if 'retinanet' in name else 'mmseg')
    if not (DATA / folder).is_dir():
        pytest.skip(f'no real data: {DATA / folder} is missing; set MMEA_DATA')
    monkeypatch.chdir(tmp_path)
    Path('data').mkdir()
    Path('data', folder).symlink_to(DATA / folder)
    monkeypatch.setenv('MMEA_ZOO', str(ROOT / 'zoo'))
    weights = ROOT / 'zoo' / name / f'{name}.safetensors'
    card = weights.with_name('README.md').read_text('utf-8')
    metric, want = re.search(
        r'first ten validation images \| (.+) ([\d.]+) \|', card
    ).groups()
    if metric == 'mIoU':
        options = ['test_dataloader.dataset.indices=10']
    else:
        metric = f'coco/bbox_m{metric}'
        options = [
            f'{part}.ann_file={first_ten(folder)}'
            for part in ('test_dataloader.dataset', 'test_evaluator')
        ]
    run(test.main, config, weights, '--cfg-options', *options)
    (log,) = Path('work_dirs').rglob('[0-9]*/*.json')
    assert json.loads(log.read_text())[metric] == pytest.approx(
        float(want), rel=2e-3
    )
    # By its name alone.
    assert load(name, device='cpu').classes[-1] in card


def first_ten(folder: str) -> Path:
    """Write the first ten images of a COCO file, and what is in them."""
    content = json.loads((DATA / folder / 'annotations/val.json').read_text())
    content['images'] = content['images'][:10]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [
        a for a in content['annotations'] if a['image_id'] in ids
    ]
    path = Path('ten.json').absolute()
    path.write_text(json.dumps(content))
    return path
