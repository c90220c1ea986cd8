"""What is wrong with the files of mmseg's data sets, before the start."""

from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from mmea.datasets.image_head import read_head
from mmea.engine.data_checks import check_data, images
from mmea.errors import UserError


def save(path, size=(3, 2), tag=None):
    """An image of a width and height."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if tag:
        exif[274] = tag
    Image.new('L', size).save(path, exif=exif)


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check a data set; the one line of its error, None without."""
    pytest.importorskip('mmseg.datasets')
    monkeypatch.chdir(tmp_path)
    for name in 'abc':
        save(f'images/{name}.jpg')
        save(f'labels/{name}.png')

    def call(loader=None, metric=None, **dataset) -> str | None:
        pipeline = [
            loader or dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
        ]
        dataset = dict(
            dict(
                type='BaseSegDataset',
                data_prefix=dict(img_path='images', seg_map_path='labels'),
                metainfo=dict(classes=('x', 'y')),
                pipeline=pipeline,
            ),
            **dataset,
        )
        cfg = Config(
            dict(
                default_scope='mmseg',
                val_dataloader=dict(dataset=dataset),
                val_evaluator=metric,
            )
        )
        try:
            check_data(cfg, 'val_dataloader')
        except UserError as error:
            assert '\n' not in str(error)
            return str(error)
        return None

    return call


def test_good_data(check):
    assert check() is None
    Path('few.txt').write_text('a\nc\n')
    Path('images/b.jpg').write_bytes(b'')
    assert check(ann_file='few.txt') is None
    assert check(indices=1) is None
    assert check(indices=[0, 2]) is None


def test_no_file_of_the_suffix(check):
    message = check(img_suffix='.jpeg')
    assert message == (
        "no image of val_dataloader.dataset in images: img_suffix is '.jpeg', "
        "and the files there are 3 of '.jpg'; set "
        'val_dataloader.dataset.img_suffix or '
        'val_dataloader.dataset.data_prefix.img_path'
    )
    message = check(seg_map_suffix='_ids.png')
    assert "('labels/a_ids.png', ...): seg_map_suffix is '_ids.png'" in message
    assert "the files there are 3 of '.png'; set val_dataloader" in message
    # Where no labels are compared, none are needed.
    metric = dict(type='IoUMetric', format_only=True)
    assert check(seg_map_suffix='_ids.png', metric=metric) is None


def test_missing_files(check):
    Path('labels/b.png').unlink()
    assert (
        "1 of the 6 files of val_dataloader.dataset are not there: 'label"
        in check()
    )
    Path('all.txt').write_text('a\nd\nc\n')
    message = check(ann_file='all.txt')
    assert '2 of the 6 files of' in message and "'images/d.jpg'" in message


@pytest.mark.parametrize('path', ['images/b.jpg', 'labels/b.png'])
def test_broken_files(check, path):
    Path(path).write_bytes(b'no picture')
    assert f"holds 1 files that cannot be decoded: '{path}'" in check()
    # Who reads them otherwise knows better.
    other = dict(type='LoadImageFromNDArray')
    assert check(loader=other) is None


def test_labels_of_another_size(check):
    save('labels/b.png', (2, 3))
    assert 'images/b.jpg is (2, 3), labels/b.png (3, 2); both' in check()
    save('images/b.jpg', (3, 2), tag=6)  # it is so once it is turned
    assert check() is None


@pytest.mark.parametrize(('tag', 'size'), [(3, (3, 2)), (6, (3, 3))])
def test_orientation_that_fits_both_ways(check, tag, size):
    for name in 'ac':
        save(f'images/{name}.jpg', size, tag)
        save(f'labels/{name}.png', size)
    message = check()
    assert 'holds 2 images with an EXIF orientation' in message
    assert "'images/a.jpg', 'images/c.jpg'; set exif='apply' or" in message
    for exif in 'apply', 'ignore':
        assert check(loader=dict(type='mmea.LoadImage', exif=exif)) is None
    save('images/b.jpg', (3, 2), tag=6)
    save('labels/b.png', (2, 3))
    loader = dict(type='mmea.LoadImage', exif='ignore')
    assert 'images/b.jpg is (2, 3), labels/b.png (3, 2)' in check(loader)


def test_what_was_good_is_not_read_again(check, monkeypatch):
    assert check() is None
    read = []
    monkeypatch.setattr(
        images,
        'read_head',
        lambda path: read.append(path) or read_head(path),
    )
    assert check() is None and not read
    save('labels/b.png', (2, 3))
    assert check() is not None and len(read) == 6
    # What was bad is.
    read.clear()
    assert check() is not None and len(read) == 6


def test_data_set_that_cannot_be_built(check):
    words = 'cannot list the data set val_dataloader.dataset: TypeError'
    assert words in check(image_suffix='.jpg')
