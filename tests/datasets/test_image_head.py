import io

import numpy as np
import pytest
from PIL import Image

from mmea.datasets.image_head import read_head


def stored(height, width, suffix='PNG', tag=None):
    file, exif = io.BytesIO(), Image.Exif()
    if tag:
        exif[274] = tag
    Image.new('1', (width, height)).save(file, suffix, exif=exif)
    file.seek(0)
    return file


@pytest.mark.parametrize('suffix', ['PNG', 'JPEG', 'TIFF'])
@pytest.mark.parametrize(
    ('tag', 'orientation', 'upright'),
    [
        (None, None, (2, 3)),
        (1, None, (2, 3)),
        (3, 3, (2, 3)),
        (6, 6, (3, 2)),
        (9, None, (2, 3)),  # there is no such orientation
    ],
)
def test_size_and_orientation(suffix, tag, orientation, upright):
    head = read_head(stored(2, 3, suffix, tag))
    assert head == ((2, 3), orientation)
    assert head.upright_size == upright


def test_what_is_no_image(tmp_path):
    assert read_head(io.BytesIO(b'no picture')) is None
    assert read_head(io.BytesIO(b'')) is None
    assert read_head(str(tmp_path)) is None  # a folder
    with pytest.raises(FileNotFoundError):
        read_head(str(tmp_path / 'gone.png'))


def test_bands_in_pages(tmp_path):
    """(32, 48, 13) as tifffile writes it: 32 pages of 48 x 13."""
    tifffile = pytest.importorskip('tifffile')
    path = str(tmp_path / 'x.tif')
    tifffile.imwrite(path, np.zeros((32, 48, 13), np.uint16))
    assert read_head(path) is None


def test_larger_than_pillow_decodes(recwarn):
    limit = Image.MAX_IMAGE_PIXELS
    side = int(np.sqrt(3 * limit))
    assert read_head(stored(side, side)).size == (side, side)
    assert limit == Image.MAX_IMAGE_PIXELS and not recwarn.list
