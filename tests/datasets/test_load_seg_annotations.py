import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')

from mmea.datasets import LoadSegAnnotations
from mmea.errors import UserError


def test_size_is_that_of_the_file(tmp_path):
    """Not that of an image that was resized before."""
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    path = str(tmp_path / 'a.png')
    Image.fromarray(labels).save(path)
    results = dict(
        seg_map_path=path,
        ori_shape=(2, 3),
        img_shape=(4, 6),
        reduce_zero_label=False,
        seg_fields=[],
    )
    load = LoadSegAnnotations()
    assert np.array_equal(load(dict(results))['gt_seg_map'], labels)
    with pytest.raises(UserError, match=r'a.png is \(2, 3\), its image'):
        load(dict(results, ori_shape=(4, 6)))
