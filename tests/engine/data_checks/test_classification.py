"""What is wrong with classification data is said before anything is built."""

from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from mmea.engine.data_checks import check_data, check_heads
from mmea.errors import UserError

FILES = ('cat/0.jpg', 'cat/1.PNG', 'dog/2.jpg')
LIST = 'cat/0.jpg 0\ncat/1.PNG 0\ndog/2.jpg 1\n'


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check a data set of two classes; the one line of its error, or None."""
    pytest.importorskip('mmpretrain.datasets')
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        path = Path('data/train', name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def call(*, listed=None, model=None, **dataset) -> str | None:
        if listed is not None:
            Path('data/meta').mkdir(exist_ok=True)
            Path('data/meta/train.txt').write_text(listed)
        dataset = dict(
            dict(
                type='ImageNet',
                data_root='data',
                split='train',
                metainfo=dict(classes=('cat', 'dog')),
            ),
            **dataset,
        )
        cfg = Config(
            dict(
                default_scope='mmpretrain',
                train_dataloader=dict(dataset=dataset),
            )
        )
        try:
            check_data(cfg, 'train_dataloader')
            if model is not None:
                check_heads(model, cfg, 'train_dataloader')
        except UserError as error:
            assert '\n' not in str(error)
            return str(error)
        return None

    return call


def test_good_data(check):
    assert check() is None
    assert check(metainfo=dict(classes=('animal', 'other'))) is None
    assert check(type='mmpretrain.ImageNet') is None
    custom = dict(type='CustomDataset', split=None)
    assert check(data_root='data/train', metainfo=None, **custom) is None
    assert check(data_prefix='train', **custom) is None
    assert check(data_prefix=dict(img_path='train'), **custom) is None
    assert check(listed=LIST) is None
    # A list may leave classes out: labels are its numbers.
    assert check(listed='cat/0.jpg 1\n') is None
    assert check(metainfo=None) is None  # 1,000 classes, and the list


def test_missing_and_empty_folders(check):
    where = r'the data set folder data/val (train_dataloader.dataset.split) '
    message = check(split='val')
    assert message.startswith(f'{where}is missing; set')
    assert "data_root (now 'data')" in message and '--demo' in message
    Path('data/val').mkdir()
    assert check(split='val').startswith(f'{where}is empty; set')
    message = check(type='CustomDataset', split=None, data_prefix='gone')
    assert 'data/gone (train_dataloader.dataset.data_prefix) is miss' in (
        message
    )


def test_folders_without_images(check):
    for name in FILES:
        Path('data/train', name).unlink()
    Path('data/train/cat/notes.txt').touch()
    message = check()
    assert 'data/train' in message and 'holds no images (.jpg, ' in message


def test_images_without_folders(check):
    Path('data/val').mkdir()
    Path('data/val/0.jpg').touch()
    message = check(split='val')
    assert 'has no folder of a class' in message
    assert 'list them with their classes in data/meta/val.txt' in message


def test_number_of_folders(check):
    message = check(metainfo=None)  # ImageNet's own
    assert message.startswith(
        'the data set folder data/train (train_dataloader.dataset.split) has '
        "2 folders ('cat', 'dog'), the data set 1000 classes; sort"
    )
    assert 'train_dataloader.dataset.metainfo.classes' in message
    message = check(metainfo=None, classes=['a', 'b', 'c'])
    assert 'the data set 3 classes' in message


def test_classes_in_another_order(check):
    message = check(metainfo=dict(classes=('dog', 'cat')))
    assert 'another order' in message and "write them as 'cat', 'dog'" in (
        message
    )
    assert 'is the text' in check(metainfo=dict(classes='cat'))


@pytest.mark.parametrize(
    ('listed', 'words'),
    [
        ('', 'data/meta/train.txt holds no images'),
        ('cat/0.jpg 0\n\ndog/2.jpg 1\n', 'line 2 of the annotation file'),
        ('cat/0.jpg cat\n', 'line 1 of the annotation file data/meta/tr'),
        ('cat/0.jpg -1\n', "is 'cat/0.jpg -1'; it must be an image below"),
        ('0\n', 'line 1'),
        ('cat/0.jpg 0\ndog/2.jpg 2\n', 'class numbers 2, outside the 2 cla'),
        (LIST + 'dog/3.jpg 1\n', '1 of the 4 images of the annotation file'),
    ],
)
def test_lists(check, listed, words):
    assert words in check(listed=listed)


def test_named_list(check):
    message = check(ann_file='train.txt')
    assert 'the annotation file data/train.txt' in message
    assert 'train_dataloader.dataset.ann_file) is missing' in message


def test_test_split_has_no_labels(check):
    Path('data/test').mkdir()
    Path('data/test/0.jpg').touch()
    assert check(split='test') is None
    Path('data/meta').mkdir()
    Path('data/meta/test.txt').write_text('0.jpg\n1.jpg\n')
    assert "not in data/test: '1.jpg'" in check(split='test')


def test_data_sets_that_are_not_known(check):
    assert check(type='CIFAR10', data_root='', split='train') is None
    assert check(split='gone', backend_args=dict(backend='petrel')) is None


class Counting(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, number in parts.items():
            setattr(self, name, nn.Identity())
            getattr(self, name).num_classes = number


def test_number_of_classes(check):
    assert check(model=Counting(head=2, data_preprocessor=2)) is None
    assert check(model=Counting(head=2, data_preprocessor=None)) is None
    assert check(model=Counting(neck=5)) is None
    for name in ('head', 'data_preprocessor'):
        message = check(model=Counting(**{name: 3}))
        assert message == (
            f'model.{name}.num_classes is 3, the data set has 2 classes '
            '(train_dataloader.dataset.metainfo.classes); set '
            f'model.{name}.num_classes=2'
        )
    # Counted by the folders.
    custom = dict(type='CustomDataset', split=None, data_root='data/train')
    message = check(model=Counting(head=3), metainfo=None, **custom)
    assert 'the data set has 2 classes' in message


def test_images_that_cannot_be_decoded(check):
    pipeline = [dict(type='LoadImageFromFile')]
    words = "holds 3 files that cannot be decoded: 'data/train/cat/0.jpg'"
    assert words in check(listed=LIST, pipeline=pipeline)
    Path('data/meta/train.txt').unlink()
    assert 'holds 3 files that cannot be decoded' in check(pipeline=pipeline)
