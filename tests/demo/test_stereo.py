"""Rendered pairs: the views agree, and are read as they were drawn."""

import numpy as np
import pytest

pytest.importorskip('cv2')

from mmea.demo import FIRST_VAL, write_demo
from mmea.demo.stereo import (
    MAX_DISPARITY,
    _shape,
    _Surface,
    _texture,
    _view,
    _wall,
    render_pair,
)

SIZE = 48, 80


def surfaces(seed):
    rng = np.random.default_rng(seed)
    return [_wall(rng, SIZE), *(_shape(rng, SIZE) for _ in range(5))]


def test_a_plane_is_moved_by_its_disparity():
    paint = _texture(np.random.default_rng(0))
    plane = _Surface(7.0, 0.0, 0.0, lambda x, y: x == x, paint)
    left, disparity = _view([plane], SIZE, right=False)
    right, _ = _view([plane], SIZE, right=True)
    assert (disparity == 7).all()
    np.testing.assert_array_equal(right[:, :-7], left[:, 7:])


@pytest.mark.parametrize('seed', range(4))
def test_slanted_surfaces_agree_and_hide_what_is_behind(seed):
    """Each left pixel, at its place in the right view."""
    left, depth = _view(surfaces(seed), SIZE, right=False)
    right, right_depth = _view(surfaces(seed), SIZE, right=True)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    place = x - depth
    inside = place >= 0
    low = np.floor(place[inside]).astype(int)
    part, y = place[inside] - low, y[inside]
    high = np.minimum(low + 1, SIZE[1] - 1)
    # It is there, or something nearer is; a bar may lie between two pixels.
    there = np.maximum(right_depth[y, low], right_depth[y, high])
    assert (there > depth[inside] - 0.2).mean() > 0.98
    seen = (abs(right_depth[y, low] - depth[inside]) < 0.2) & (
        abs(right_depth[y, high] - depth[inside]) < 0.2
    )
    assert 0.6 < seen.mean() < 0.99
    colour = (
        right[y, low] * (1 - part)[:, None] + right[y, high] * part[:, None]
    )
    error = abs(colour - left[inside]).mean(1)[seen]
    wrong = abs(right[y, np.maximum(low - 3, 0)] - left[inside]).mean(1)[seen]
    assert np.median(error) < 1 and 5 * np.median(error) < np.median(wrong)


def test_pairs_are_drawn_from_the_seed():
    pair, same = (render_pair(3, size=SIZE) for _ in range(2))
    other = render_pair(3, size=SIZE, seed=1)
    assert pair.left.shape == (*SIZE, 3) and pair.left.dtype == np.uint8
    assert np.array_equal(pair.right, same.right)
    assert not np.array_equal(pair.disparity, other.disparity)
    found = [render_pair(i, size=SIZE).disparity for i in range(20)]
    assert min(d.min() for d in found) > 0
    assert 20 < max(d.max() for d in found) < MAX_DISPARITY
    clean = render_pair(3, size=SIZE, noise=0)
    assert np.array_equal(clean.disparity, pair.disparity)
    assert 1 < abs(clean.left - pair.left.astype(float)).mean() < 4


def test_the_set_is_read_as_it_was_drawn(tmp_path):
    DATASETS = pytest.importorskip('mmea.registry').DATASETS
    write_demo('sceneflow', tmp_path / 'a', num_train=2, num_val=1, size=SIZE)
    for split, first, number in (('train', 0, 2), ('test', FIRST_VAL, 1)):
        data = DATASETS.build(
            dict(
                type='mmea.SceneFlow',
                data_root=str(tmp_path / 'a'),
                split=split,
            )
        )
        assert len(data) == number
        for i, item in enumerate(data):
            pair = render_pair(first + i, size=SIZE)
            views = np.stack([pair.left, pair.right]).transpose(0, 3, 1, 2)
            assert np.array_equal(item['inputs'], views)
            truth = item['data_samples'].gt_disparity
            assert np.array_equal(truth, pair.disparity)
