"""Parts of files that rasterio reads."""

import cv2
import numpy as np
import PIL.Image
import pytest

from mmea.errors import UserError

rasterio = pytest.importorskip('rasterio')

from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from mmea.inference.windows import RasterWindows, is_upright  # noqa: E402

SIZE = 37, 70
CORNERS = [(0, 0, 5, 9), (0, 70, 9, 9), (37, 0, 5, 5)]


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(
        0, 256, (*SIZE, 3), dtype=np.uint8
    )


def write(path, image, **options):
    image = image.reshape(*image.shape[:2], -1)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=image.shape[0],
        width=image.shape[1],
        count=image.shape[2],
        dtype=image.dtype,
        **options,
    ) as file:
        file.write(image.transpose(2, 0, 1))
    return path


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_parts(tmp_path, rgb):
    image = RasterWindows(write(tmp_path / 'a.tif', rgb))
    assert image.size == SIZE
    bgr = rgb[..., ::-1]
    assert np.array_equal(image.read(5, 8, 20, 41), bgr[5:20, 8:41])
    # Less where it ends.
    assert np.array_equal(image.read(30, 60, 64, 96), bgr[30:, 60:])
    assert image.every(8).shape == (5, 9, 3)


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_grey_and_alpha(tmp_path, rgb):
    grey = RasterWindows(write(tmp_path / 'a.tif', rgb[..., 0]))
    assert np.array_equal(grey.read(0, 0, 9, 9), rgb[:9, :9, [0, 0, 0]])
    alpha = write(
        tmp_path / 'b.tif',
        np.dstack([rgb, np.full(SIZE, 255, np.uint8)]),
        photometric='RGB',
        alpha='YES',
    )
    with rasterio.open(alpha) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    got = RasterWindows(alpha).read(0, 0, 9, 9)
    assert np.array_equal(got, rgb[:9, :9, ::-1])
    # Other channels than three keep their order.
    two = RasterWindows(write(tmp_path / 'c.tif', rgb[..., :2]), 2)
    assert np.array_equal(two.read(0, 0, 9, 9), rgb[:9, :9, :2])


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_refused(tmp_path, rgb):
    text = tmp_path / 'a.tif'
    text.write_text('no image')
    with pytest.raises(UserError, match='cannot read .*a.tif'):
        RasterWindows(text)
    deep = write(tmp_path / 'b.tif', rgb.astype(np.uint16))
    with pytest.raises(UserError, match='uint16.*-scale'):
        RasterWindows(deep)
    five = write(tmp_path / 'c.tif', np.dstack([rgb, rgb[..., :2]]))
    with pytest.raises(UserError, match='5 channels, and the model takes 3'):
        RasterWindows(five)
    palette = write(tmp_path / 'd.tif', rgb[..., 0], photometric='palette')
    with rasterio.open(palette, 'r+') as file:
        file.write_colormap(1, {0: (1, 2, 3), 1: (4, 5, 6)})
    with pytest.raises(UserError, match='palette.*-expand rgb'):
        RasterWindows(palette)


@pytest.mark.parametrize('number', [19, 300])
@pytest.mark.parametrize('by_points', [False, True])
def test_labels_lie_where_the_image_does(tmp_path, rgb, number, by_points):
    if by_points:
        place = dict(
            crs='EPSG:32633',
            gcps=[
                GroundControlPoint(row, col, x, y)
                for row, col, x, y in [
                    (0, 0, 5, 9),
                    (0, 70, 9, 9),
                    (37, 0, 5, 5),
                ]
            ],
        )
    else:
        place = dict(crs='EPSG:32633', transform=from_origin(400, 900, 2, 2))
    path = write(tmp_path / 'a.tif', rgb, **place)
    labels = np.random.default_rng(1).integers(0, number, SIZE)
    palette = np.arange(3 * number).reshape(-1, 3).astype(np.uint8)
    palette = np.concatenate([[[0, 0, 0]], palette]) if number < 256 else None
    out = tmp_path / 'labels.tif'
    RasterWindows(path).write_labels(out, labels, 1, palette)
    with rasterio.open(path) as image, rasterio.open(out) as file:
        assert np.array_equal(file.read(1), labels + 1)
        assert file.transform == image.transform
        assert file.crs == image.crs
        points, crs = file.gcps
        assert [(p.row, p.x) for p in points] == [
            (p.row, p.x) for p in image.gcps[0]
        ]
        assert crs == image.gcps[1] and len(points) == 3 * by_points
        if palette is None:
            assert file.dtypes == ('uint16',)
        else:
            assert file.colormap(1)[5][:3] == tuple(palette[5])


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_four_channels_as_the_loader_gives_them(tmp_path, rgb):
    """OpenCV turns three of them, tifffile none."""
    four = np.dstack([rgb, rgb[..., 0]])
    path = write(tmp_path / 'a.tif', four, photometric='RGB', alpha='NO')
    got = RasterWindows(path, 4).read(0, 0, 9, 9)
    assert np.array_equal(got, four[:9, :9, [2, 1, 0, 3]])
    assert np.array_equal(
        got, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:9, :9]
    )
    got = RasterWindows(path, 4, turned=False).read(0, 0, 9, 9)
    assert np.array_equal(got, four[:9, :9])


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_a_damaged_part_names_the_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    path = write(
        tmp_path / 'a.tif', image, compress='deflate', tiled=True,
        blockxsize=256, blockysize=256,
    )  # fmt: skip
    raw = path.read_bytes()
    middle = len(raw) // 2
    path.write_bytes(
        raw[:middle] + bytes(middle // 2) + raw[middle * 3 // 2 :]
    )
    windows = RasterWindows(path)
    with pytest.raises(UserError, match='cannot read .*a.tif'):
        windows.read(0, 0, 900, 900)
    with pytest.raises(UserError, match='cannot read .*a.tif'):
        windows.every(1)


@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_as_it_is_stored(tmp_path, rgb):
    plain = write(tmp_path / 'a.tif', rgb)
    white = write(tmp_path / 'b.tif', rgb[..., 0], photometric='MINISWHITE')
    turned = tmp_path / 'c.tif'
    PIL.Image.fromarray(rgb).save(turned, tiffinfo={274: 6})
    assert [is_upright(p) for p in (plain, white, turned)] == [1, 0, 0]
