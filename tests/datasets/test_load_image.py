import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmea.datasets import LoadImage
from mmea.errors import UserError

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def test_reads_as_mmcv_does(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(PIXELS).save(path)
    results = LoadImage()(dict(img_path=str(path)))
    assert np.array_equal(results['img'], PIXELS[..., ::-1])  # BGR
    assert results['img_shape'] == results['ori_shape'] == (2, 3)
    results = LoadImage(to_float32=True)(dict(img_path=str(path)))
    assert results['img'].dtype == np.float32


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'image not found: .*a.png'),
        (b'none', 'cannot decode .*a.png'),
        (b'', 'cannot decode .*a.png'),
    ],
)
def test_errors_name_the_file(tmp_path, content, words):
    path = tmp_path / 'a.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        LoadImage()(dict(img_path=str(path)))
    assert LoadImage(ignore_empty=True)(dict(img_path=str(path))) is None


class TestExif:
    """Of the orientations 2 to 8, 5 to 8 exchange height and width."""

    @pytest.fixture
    def load(self, tmp_path):
        def call(tag, label=None, size=(2, 3), suffix='png', annotated=None,
                 **kwargs):  # fmt: skip
            path, seg = tmp_path / f'a.{suffix}', tmp_path / 'seg.png'
            rng = np.random.default_rng(0)
            image = Image.fromarray(
                rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            )
            exif = Image.Exif()
            exif[274] = tag
            image.save(path, exif=exif)
            results = dict(img_path=str(path), **(annotated or {}))
            if label:
                Image.fromarray(np.zeros(label, np.uint8)).save(seg)
                results['seg_map_path'] = str(seg)
            got = LoadImage(**kwargs)(results)['img'][..., ::-1]
            with Image.open(path) as stored:
                turned = np.array(ImageOps.exif_transpose(stored))
                stored = np.array(image)
            return [np.array_equal(got, x) for x in (stored, turned)]

        return call

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    @pytest.mark.parametrize('suffix', ['png', 'tif'])
    @pytest.mark.parametrize('tag', [5, 6, 7, 8])
    def test_the_size_decides(self, load, tag, suffix, backend):
        kwargs = dict(suffix=suffix, imdecode_backend=backend)
        assert load(tag, (2, 3), **kwargs) == [True, False]
        assert load(tag, (3, 2), **kwargs) == [False, True]
        coco = dict(height=2, width=3)
        assert load(tag, annotated=coco, **kwargs) == [True, False]
        coco = dict(height=3, width=2)
        assert load(tag, annotated=coco, **kwargs) == [False, True]

    @pytest.mark.parametrize(
        ('tag', 'size'),
        [(2, (2, 3)), (3, (2, 3)), (4, (2, 3)), (6, (3, 3)), (8, (3, 3))],
    )
    def test_where_both_fit(self, load, tag, size):
        words = f"a.png has the EXIF orientation {tag}, .* exif='apply' or"
        with pytest.raises(UserError, match=words):
            load(tag, size, size)
        assert load(tag, size, size, exif='ignore') == [True, False]
        assert load(tag, size, size, exif='apply') == [False, True]

    def test_nothing_annotated(self, load):
        assert load(6) == [False, True]  # as mmcv
        assert load(6, exif='ignore') == [True, False]
        assert load(3, suffix='tif', exif='ignore') == [True, False]
        assert load(6, color_type='unchanged') == [True, False]  # as mmcv
        assert load(6, (3, 2), color_type='unchanged') == [False, True]

    def test_upright(self, load):
        assert load(1, (3, 3), (3, 3)) == [True, True]

    def test_no_such_choice(self):
        with pytest.raises(UserError, match="exif of .* got 'turn'"):
            LoadImage(exif='turn')


class TestBands:
    @pytest.fixture
    def write(self, tmp_path):
        tifffile = pytest.importorskip('tifffile')

        def call(bands, dtype='uint16', first=False, **kwargs):
            path = tmp_path / f'{bands}.tif'
            rng = np.random.default_rng(0)
            image = rng.integers(0, 200, (20, 30, bands)).astype(dtype)
            stored = np.moveaxis(image, 2, 0) if first else image
            tifffile.imwrite(
                path,
                stored,
                photometric='minisblack',
                planarconfig='separate' if first else 'contig',
                **kwargs,
            )
            return dict(img_path=str(path)), image

        return call

    @pytest.mark.parametrize('backend', ['cv2', 'tifffile'])
    @pytest.mark.parametrize('first', [False, True])
    @pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
    @pytest.mark.parametrize('bands', [4, 13])
    def test_all_are_read(self, write, bands, dtype, first, backend):
        results, image = write(bands, dtype, first)
        load = LoadImage(color_type='unchanged', imdecode_backend=backend)
        results = load(results)
        assert results['ori_shape'] == (20, 30)
        assert results['img'].dtype == dtype
        assert np.array_equal(results['img'], image)

    @pytest.mark.parametrize('first', [False, True])
    def test_in_pages(self, tmp_path, first):
        tifffile = pytest.importorskip('tifffile')
        image = np.random.default_rng(0).integers(0, 9, (20, 30, 13))
        image = image.astype(np.uint16)
        stored = np.moveaxis(image, 2, 0) if first else image
        path = tmp_path / 'a.tif'
        tifffile.imwrite(path, stored, photometric='minisblack')
        results = LoadImage(color_type='unchanged')(dict(img_path=str(path)))
        assert np.array_equal(results['img'], image)

    def test_big_tiff(self, write):
        results, image = write(13, bigtiff=True)
        got = LoadImage(color_type='unchanged')(results)['img']
        assert np.array_equal(got, image)

    def test_three_are_colours(self, tmp_path):
        path = tmp_path / 'a.tif'
        Image.fromarray(PIXELS).save(path)
        for flag in ('color', 'unchanged'):
            results = LoadImage(color_type=flag)(dict(img_path=str(path)))
            assert np.array_equal(results['img'], PIXELS[..., ::-1])

    def test_as_colours(self, write):
        results, _ = write(13)
        with pytest.raises(UserError, match="13.tif .*color_type='unchanged'"):
            LoadImage()(results)

    def test_without_tifffile(self, write, monkeypatch):
        results, _ = write(13)
        monkeypatch.setitem(sys.modules, 'tifffile', None)
        with pytest.raises(UserError, match='pip install tifffile'):
            LoadImage(color_type='unchanged')(results)
