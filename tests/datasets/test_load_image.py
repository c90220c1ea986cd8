import numpy as np
import pytest
from PIL import Image

from mmea.datasets import LoadImage
from mmea.errors import UserError


def test_reads_as_mmcv_does(tmp_path):
    path = tmp_path / 'a.png'
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(path)
    results = LoadImage()(dict(img_path=str(path)))
    assert np.array_equal(results['img'], pixels[..., ::-1])  # BGR
    assert results['img_shape'] == results['ori_shape'] == (2, 3)


@pytest.mark.parametrize(
    ('content', 'words'),
    [(None, 'image not found: .*a.png'), (b'none', 'cannot decode .*a.png')],
)
def test_errors_name_the_file(tmp_path, content, words):
    path = tmp_path / 'a.png'
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        LoadImage()(dict(img_path=str(path)))
