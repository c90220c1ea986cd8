import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mmea.datasets.coco_masks import _fill, coco_to_masks

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get('MMEA_DATA', PROJECT.parent / 'shared/data'))


def box(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def example():
    """A large object written after the small one, ids with gaps."""
    return dict(
        images=[
            dict(id=7, file_name='a.jpg', height=6, width=8),
            dict(id=9, file_name='sub/b.png', height=3, width=5),
        ],
        categories=[dict(id=40, name='ship'), dict(id=2, name='car')],
        annotations=[
            dict(
                id=1,
                image_id=7,
                category_id=40,
                segmentation=[box(2, 2, 2, 1), box(6, 4, 2, 2)],
            ),
            dict(
                id=2, image_id=7, category_id=2, segmentation=[box(1, 1, 4, 4)]
            ),
        ],
    )


def convert(coco, tmp_path):
    (tmp_path / 'ann.json').write_text(json.dumps(coco))
    metainfo = coco_to_masks(tmp_path / 'ann.json', tmp_path / 'out')
    return metainfo, {
        path.relative_to(tmp_path / 'out').as_posix(): np.array(
            Image.open(path)
        )
        for path in (tmp_path / 'out').rglob('*.png')
    }


def test_labels_order_and_names(tmp_path):
    metainfo, masks = convert(example(), tmp_path)
    assert metainfo == dict(classes=('background', 'car', 'ship'))
    assert sorted(masks) == ['a.png', 'sub/b.png']
    assert masks['a.png'].dtype == np.uint8
    assert masks['a.png'].tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 1, 2, 2, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0, 0, 2, 2],
    ]
    assert masks['sub/b.png'].tolist() == [[0] * 5] * 3


def test_plain_rle_runs_down_the_columns(tmp_path):
    coco = example()
    coco['annotations'] = [
        dict(
            id=1,
            image_id=9,
            category_id=2,
            segmentation=dict(size=[3, 5], counts=[4, 2, 9]),
        )
    ]
    _, masks = convert(coco, tmp_path)
    assert masks['sub/b.png'].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0],
    ]


def test_compressed_rle(tmp_path):
    coco = example()
    want = np.random.default_rng(0).integers(0, 2, (6, 8), np.uint8)
    rle = coco_mask.encode(np.asfortranarray(want))
    coco['annotations'] = [
        dict(
            id=1,
            image_id=7,
            category_id=2,
            segmentation=dict(size=[6, 8], counts=rle['counts'].decode()),
        )
    ]
    _, masks = convert(coco, tmp_path)
    assert (masks['a.png'] == want).all()


corner = st.floats(-3, 13, allow_subnormal=False)


@given(st.lists(st.tuples(corner, corner), min_size=3, max_size=3))
def test_triangle_against_its_half_planes(points):
    (ax, ay), (bx, by), (cx, cy) = points
    y, x = np.mgrid[:10, :9] + 0.5
    corners = list(zip(points, points[1:] + points[:1]))
    sides = np.array(
        [
            (qx - px) * (y - py) - (qy - py) * (x - px)
            for (px, py), (qx, qy) in corners
        ]
    )
    lengths = [np.hypot(qx - px, qy - py) for (px, py), (qx, qy) in corners]
    # pycocotools rounds corners to a fifth of a pixel, and edges on the way.
    near = np.abs(sides) <= 0.3 * np.array(lengths)[:, None, None]
    sure = ~near.any(0)
    inside = (sides > 0).all(0) | (sides < 0).all(0)
    got = _fill([np.ravel(points).tolist()], 10, 9)
    assert (got == inside)[sure].all()


def test_polygon_with_a_bay():
    points = [(0, 0), (4, 0), (4, 4), (3, 4), (3, 1), (1, 1), (1, 4), (0, 4)]
    assert _fill([np.ravel(points).tolist()], 5, 5).astype(int).tolist() == [
        [1, 1, 1, 1, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
    ]


def set_polygon(*polygons):
    return lambda coco: coco['annotations'][0].update(
        segmentation=list(polygons)
    )


@pytest.mark.parametrize(
    'change, match',
    [
        (lambda c: c['images'].clear(), "empty list 'images'"),
        (lambda c: c['categories'].clear(), "empty list 'categories'"),
        (lambda c: c.pop('annotations'), "no list 'annotations'"),
        (lambda c: c['images'][0].pop('width'), 'width must be .*a.jpg'),
        (lambda c: c['images'][0].update(height=0), 'height must be'),
        (lambda c: c['images'][0].update(file_name='../a.jpg'), 'file_name'),
        (lambda c: c['images'][0].update(file_name='/a.jpg'), 'file_name'),
        (lambda c: c['images'][0].update(file_name='sub/b.jpg'), 'two images'),
        (lambda c: c['categories'][0].update(id=2), r'unique.*\[2, 2\]'),
        (lambda c: c['annotations'][0].update(image_id=3), 'image_id=3'),
        (lambda c: c['annotations'][0].update(category_id=3), 'category_id=3'),
        (lambda c: c['annotations'][0].pop('segmentation'), 'polygons or RLE'),
        (set_polygon([1, 1, 2, 2]), 'at least 3 corners'),
        (set_polygon([1, 1, 2, 2, 3, 3, 4]), 'at least 3 corners'),
        (set_polygon(box(5, 2, 4.5, 2)), r'id=1 of .a.jpg.*leaves the image'),
        (set_polygon([float('nan')] * 6), 'leaves the image'),
        (set_polygon(), None),
    ],
)
def test_bad_annotations(change, match, tmp_path):
    coco = copy.deepcopy(example())
    change(coco)
    if match is None:  # no polygon at all: nothing to draw, no error
        _, masks = convert(coco, tmp_path)
        assert set(np.unique(masks['a.png'])) == {0, 1}
        return
    with pytest.raises(ValueError, match=match):
        convert(coco, tmp_path)
    assert not (tmp_path / 'out').exists()


def test_a_little_outside_is_cut_off(tmp_path):
    coco = example()
    set_polygon(box(6.4, -0.9, 2.5, 2))(coco)
    _, masks = convert(coco, tmp_path)
    assert np.argwhere(masks['a.png'] == 2).tolist() == [[0, 6], [0, 7]]


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='ann_file=.*no.json'):
        coco_to_masks(tmp_path / 'no.json', tmp_path / 'out')
    (tmp_path / 'empty.json').write_text('')
    with pytest.raises(ValueError, match='empty.json.*no valid JSON'):
        coco_to_masks(tmp_path / 'empty.json', tmp_path / 'out')
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(ValueError, match="no list 'images'"):
        coco_to_masks(tmp_path / 'list.json', tmp_path / 'out')


@pytest.mark.skipif(
    not (DATA / 'nwpu_vhr10').is_dir(),
    reason='no nwpu_vhr10 in the folder of MMEA_DATA',
)
def test_real_annotations(tmp_path):
    coco = json.loads((DATA / 'nwpu_vhr10/instances_val.json').read_text())
    coco['images'] = coco['images'][:30]
    kept = {image['id'] for image in coco['images']}
    coco['annotations'] = [
        annotation
        for annotation in coco['annotations']
        if annotation['image_id'] in kept
    ]
    metainfo, masks = convert(coco, tmp_path)
    assert len(masks) == 30 and len(metainfo['classes']) == 11
    # These objects do not overlap, so their areas add up: by the shoelace
    # formula, since the file's own areas are of larger pictures.
    area = 0
    for annotation in coco['annotations']:
        for polygon in annotation['segmentation']:
            x, y = np.reshape(polygon, (-1, 2)).T
            area += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    drawn = sum((mask > 0).sum() for mask in masks.values())
    assert drawn == pytest.approx(area, rel=1e-3)
    for image in coco['images']:
        mask = masks[Path(image['file_name']).stem + '.png']
        assert mask.shape == (image['height'], image['width'])
        present = {
            annotation['category_id']
            for annotation in coco['annotations']
            if annotation['image_id'] == image['id']
        }
        assert set(np.unique(mask)) - {0} <= present
