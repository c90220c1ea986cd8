import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')

from mmea.datasets import LoadSegAnnotations  # noqa: E402
from mmea.errors import UserError  # noqa: E402

PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255]


@pytest.fixture
def load(tmp_path):
    """Save one row of ids (or a picture) as a file, and load it."""

    def call(ids, suffix='png', dtype=None, of_set=None, **kwargs):
        path = tmp_path / f'a.{suffix}'
        picture = ids
        if not isinstance(ids, Image.Image):
            array = np.atleast_2d(np.asarray(ids, dtype))
            picture = Image.fromarray(array)
        picture.save(path)
        results = dict(
            seg_map_path=str(path),
            ori_shape=picture.size[::-1],
            reduce_zero_label=False,
            seg_fields=[],
        )
        results.update(of_set or {})
        return LoadSegAnnotations(**kwargs)(results)['gt_seg_map']

    return call


def test_size_is_that_of_the_file(load):
    """Not that of an image that was resized before."""
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    got = load(labels, of_set=dict(img_shape=(4, 6)))
    assert got.dtype == np.uint8 and np.array_equal(got, labels)
    with pytest.raises(UserError, match=r'a.png is \(2, 3\), its image'):
        load(labels, of_set=dict(ori_shape=(4, 6)))


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize(
    ('suffix', 'dtype', 'ids'),
    [
        ('png', 'uint8', [0, 1, 254, 255]),
        ('png', 'uint16', [0, 255, 256, 259, 65535]),
        ('tif', 'uint16', [0, 255, 256, 65535]),
        ('tif', 'int32', [0, 259, 70000, 2**31 - 1]),
        ('tif', 'float32', [0, 1, 2, 299]),
    ],
)
def test_ids_at_full_depth(load, suffix, dtype, ids, backend):
    got = load(ids, suffix, dtype, imdecode_backend=backend)
    assert got.tolist() == [ids]
    assert got.dtype == (np.uint8 if max(ids) < 256 else np.int32)


@pytest.mark.parametrize(
    ('dtype', 'ids', 'told'),
    [
        ('int32', [0, -1, 3, -300], 'holds the ids -300, -1: '),
        ('float32', [0, 1, 2.75, 3], 'holds the ids 2.75: '),
        (
            'float32',
            [0, np.nan, -1, 2.5e9],
            'holds the ids -1, 2.5e[+]09, nan: ',
        ),
    ],
)
def test_what_is_no_id(load, dtype, ids, told):
    with pytest.raises(UserError, match='a.tif ' + told):
        load(ids, 'tif', dtype)


def test_an_ignored_id_may_be_negative(load):
    got = load([0, -1, 3], 'tif', 'int32', ignore_index=-1)
    assert got.tolist() == [[0, -1, 3]]


def test_the_index_of_a_palette_is_the_id(load):
    picture = Image.fromarray(np.array([[0, 2, 1]], np.uint8), mode='P')
    picture.putpalette(PALETTE)
    assert load(picture).tolist() == [[0, 2, 1]]
    with pytest.raises(UserError, match='3 channels.*backend=.pillow'):
        load(picture, imdecode_backend='cv2')


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_one_bit(load, backend):
    picture = Image.fromarray(np.array([[0, 255]], np.uint8)).convert('1')
    assert load(picture, imdecode_backend=backend).tolist() == [[0, 1]]


@pytest.mark.parametrize('channels', [2, 3, 4])
def test_colours_are_no_ids(load, channels):
    colours = Image.fromarray(np.zeros((2, 3, channels), np.uint8))
    with pytest.raises(UserError, match=f'{channels} channels: it must have'):
        load(colours)


class TestReduceZeroLabel:
    def test_at_full_depth(self, load):
        ids = [0, 1, 254, 255, 256, 300]
        got = load(ids, dtype='uint16', of_set=dict(reduce_zero_label=True))
        assert got.tolist() == [[255, 0, 253, 255, 255, 299]]

    def test_as_upstream_with_bytes(self, load):
        got = load(range(256), dtype='uint8', of_set=dict(reduce_zero_label=1))
        assert got.dtype == np.uint8
        assert got.tolist() == [[255, *range(254), 255]]

    def test_another_ignored_id_leaves_255_to_a_class(self, load):
        got = load(
            [0, 1, 255, 256, 999],
            dtype='uint16',
            of_set=dict(reduce_zero_label=True),
            ignore_index=999,
        )
        assert got.tolist() == [[999, 0, 254, 255, 999]]

    def test_the_data_set_decides(self, load):
        with pytest.raises(UserError, match='is True in the loader .* False'):
            load([0, 1], dtype='uint8', reduce_zero_label=True)
        got = load([0, 1], dtype='uint8', reduce_zero_label=False)
        assert got.tolist() == [[0, 1]]


def test_fewer_classes(load):
    label_map = {0: 255, 1: 0, 2: 1}
    got = load(
        [0, 1, 2, 300], dtype='uint16', of_set=dict(label_map=label_map)
    )
    assert got.tolist() == [[255, 0, 1, 300]]


def test_no_label_image():
    with pytest.raises(UserError, match='b.jpg has no label .*format_only'):
        LoadSegAnnotations()(dict(img_path='b.jpg'))
    with pytest.raises(UserError, match='label image not found: b.png'):
        LoadSegAnnotations()(dict(seg_map_path='b.png'))
