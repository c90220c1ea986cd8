import json
from pathlib import Path

import cv2
import pytest

from mmea.cli import check_data, new

from ..new.conftest import coco, folder  # noqa: F401


def words(capsys) -> str:
    return ' '.join(capsys.readouterr().out.split())


def test_masks(run, folder, capsys):  # noqa: F811
    run(new.main, 'data', '--classes', 'a', 'b', 'c')
    capsys.readouterr()
    run(check_data.main, 'my_config.py', '--num', 3)
    out = words(capsys)
    assert 'train_dataloader.dataset images 8 smallest, H x W 40 x 64' in out
    assert 'class pixels a 50.0% b 50.0% c -' in out
    assert "warning: 1 of the 3 classes do not occur in the data: 'c'" in out
    assert 'val_dataloader.dataset images 2' in out
    assert 'test_dataloader' not in out  # the same as that of validation
    picture = 'work_dirs/my_config/data.png'
    assert out.endswith(f'Images and their labels: {picture}')
    assert cv2.imread(picture).std() > 5


def test_boxes(run, coco, capsys):  # noqa: F811
    run(new.main, coco)
    run(check_data.main, 'my_config.py', '--out', 'sheets/a.jpg')
    assert 'images 8' in words(capsys)
    assert Path('sheets/a.jpg').exists()


def test_config_of_another_kind(run, project, capsys):
    """One that mmea new has not written, with ids from 1 on."""
    run(check_data.main, 'tiny.py')
    assert 'images 8 smallest, H x W 32 x 48' in words(capsys)


def test_wrong_data(run, folder, coco):  # noqa: F811
    run(new.main, 'data', '--out', 'seg.py')
    with pytest.raises(SystemExit, match='--num must be positive, got 0'):
        run(check_data.main, 'seg.py', '--num', 0)
    with pytest.raises(SystemExit, match='cannot write the picture a.xyz: '):
        run(check_data.main, 'seg.py', '--out', 'a.xyz')
    Path('data/masks/3.png').unlink()
    with pytest.raises(SystemExit, match='error: 1 of the .* not there.*3.pn'):
        run(check_data.main, 'seg.py')
    run(new.main, coco, '--out', 'det.py')
    content = json.loads(Path('det_train.json').read_text())
    content['categories'][0]['name'] = 'cow'
    Path('det_train.json').write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="has no category 'cat'"):
        run(check_data.main, 'det.py')


def test_labels_with_colours(run, folder):  # noqa: F811
    run(new.main, 'data')
    colour = cv2.imread('data/masks/1.png')
    cv2.imwrite('data/masks/1.png', colour)
    with pytest.raises(SystemExit, match='masks/1.png is .* of 3 channels'):
        run(check_data.main, 'my_config.py')
