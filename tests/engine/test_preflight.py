import importlib
from pathlib import Path

import pytest

from mmea.engine import preflight


def test_missing_folder(fails):
    message = fails(
        '--cfg-options', 'train_dataloader.dataset.data_root=nowhere'
    )
    assert 'nowhere/images/training' in message and 'is missing' in message
    assert 'train_dataloader.dataset.data_root' in message
    assert '--demo' in message


def test_empty_folder(fails, project):
    for path in (project / 'data/images/validation').iterdir():
        path.unlink()
    message = fails()
    assert 'data/images/validation' in message and 'is empty' in message
    assert 'val_dataloader.dataset.data_root' in message


def test_missing_list(fails):
    message = fails(
        '--cfg-options', 'train_dataloader.dataset.ann_file=train.txt'
    )
    assert 'the annotation file data/train.txt' in message


def test_demo_scenes_over_something_else(fails, project):
    (project / 'mine').mkdir()
    (project / 'mine/notes.txt').write_text('mine')
    root = 'train_dataloader.dataset.data_root=mine'
    message = fails('--demo', '--cfg-options', root, config='ea_fpn_ade20k')
    assert "holds 'notes.txt', which is not from mmea" in message
    assert 'train_dataloader.dataset.data_root' in message
    few = 'demo_scenes.num_train=0'
    message = fails('--demo', '--cfg-options', few, config='ea_fpn_ade20k')
    assert 'num_train must be an integer, at least 1' in message


def test_work_dir_that_cannot_be_written(fails, project):
    (project / 'file').write_text('in the way')
    message = fails('--work-dir', 'file/work')
    assert 'cannot write to the work dir file/work' in message
    assert '--work-dir' in message


@pytest.mark.parametrize(
    ('scope', 'missing', 'words'),
    [
        ('mmdet', 'mmdet', 'the extra "onedl-det" or "openmmlab-lite" of'),
        ('mmpretrain', 'mmpretrain', 'install the extra "cls" of mmea as'),
        ('mmpretrain', 'torchvision', "No module named 'torchvision'; inst"),
        ('mmpose', 'mmpose', 'install it as docs/install.md'),
    ],
)
def test_packages_that_are_not_there(
    fails, monkeypatch, scope, missing, words
):
    real = importlib.import_module

    def absent(name, *args):
        if name == f'{scope}.models':
            raise ModuleNotFoundError(f'No module named {missing!r}')
        return real(name, *args)

    monkeypatch.setattr(importlib, 'import_module', absent)
    message = fails('--cfg-options', f'default_scope={scope}')
    assert words in message and 'docs/install.md' in message
    assert f'needs {scope} (default_scope={scope!r})' in message


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        (None, 'mmdet cannot be imported: no torchvision; pip install it'),
        ('x.so', "mmcv's compiled ops do not fit torch"),
    ],
)
def test_ops_that_are_not_there(fails, monkeypatch, path, words):
    real = importlib.import_module

    def absent(name, *args):
        if name == 'mmdet.models':
            raise ModuleNotFoundError(
                'no torchvision; pip install it', name='mmcv._ext', path=path
            )
        return real(name, *args)

    monkeypatch.setattr(importlib, 'import_module', absent)
    assert words in fails('--cfg-options', 'default_scope=mmdet')


def test_launcher_without_its_environment(fails, monkeypatch):
    monkeypatch.setattr(preflight, 'get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    assert 'dist_train.sh' in fails('--launcher', 'pytorch')
    assert 'only torchrun' in fails('--launcher', 'slurm')


def test_label_outside_the_classes(fails, project):
    import cv2
    import numpy as np

    path = project / 'data/annotations/training/2.png'
    labels = np.ones((32, 48), np.uint8)
    labels[0, 0] = 200
    cv2.imwrite(str(path), labels)
    message = fails()
    assert 'annotations/training/2.png holds the ids 200 (199 after' in message
    assert '150 classes (0..149' in message and 'reduce_zero_label' in message
    # In the validation set too, where upstream counts on in silence.
    labels[0, 0] = 1
    cv2.imwrite(str(path), labels)
    labels[0, 0] = 151
    val = 'data/annotations/validation/1.png'
    cv2.imwrite(str(project / val), labels)
    message = fails('--cfg-options', 'train_cfg.val_interval=2')
    assert f'{val} holds the ids 151 (150' in message
    assert Path('work/iter_2.pth').exists()  # nothing is lost


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('images/training/1.jpg', 'cannot decode the image'),
        ('annotations/training/1.png', 'cannot decode the label image'),
    ],
)
def test_broken_file(fails, project, path, words, workers):
    (project / 'data' / path).write_bytes(b'no picture')
    assert f"cannot be decoded: 'data/{path}'" in fails()
    options = '--cfg-options', f'train_dataloader.num_workers={workers}'
    assert f'{words} data/{path}' in fails('--no-check', *options)


def test_missing_label_image(fails, project):
    (project / 'data/annotations/training/1.png').unlink()
    assert "are not there: 'data/annotations/training/1.png'" in fails()
    message = fails('--no-check')
    assert 'label image not found: data/annotations' in message


def test_label_image_of_another_size(fails, project):
    import cv2
    import numpy as np

    path = project / 'data/annotations/training/1.png'
    cv2.imwrite(str(path), np.ones((32, 47), np.uint8))
    assert f'1.jpg is (32, 48), {path} (32, 47)' in fails().replace(
        'data/ann', f'{project}/data/ann'
    )
    assert 'is (32, 47), its image (32, 48)' in fails('--no-check')
