import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmea.demo.render import (
    MIN_SHARE,
    Instance,
    render_object,
    render_scene,
)
from mmea.demo.shapes import WORLDS, scene_classes

LAYOUTS = sorted(WORLDS)


def render(layout, num, **kwargs):
    return [render_scene(layout, index, **kwargs) for index in range(num)]


@pytest.fixture(scope='module')
def ade20k():
    return render('ade20k', 80)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_same_arguments_same_scene(layout):
    first = render_scene(layout, 3, seed=5)
    again = render_scene(layout, 3, seed=5)
    assert (first.image == again.image).all()
    assert (first.labels == again.labels).all()
    assert len(first.instances) == len(again.instances)
    for other in (
        render_scene(layout, 4, seed=5),
        render_scene(layout, 3, seed=6),
    ):
        assert (first.image != other.image).mean() > 0.5


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(LAYOUTS),
    st.integers(0, 10**6),
    st.integers(32, 97),
    st.integers(32, 97),
)
def test_labels_follow_instances(layout, index, height, width):
    scene = render_scene(layout, index, size=(height, width))
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == scene.labels.dtype == np.uint8
    assert scene.labels.max() < len(scene_classes(layout))
    taken = np.zeros((height, width), int)
    for instance in scene.instances:
        assert instance.mask.any()
        assert (scene.labels[instance.mask] == instance.label).all()
        taken += instance.mask
        x, y, w, h = instance.bbox
        inside = instance.mask[y : y + h, x : x + w]
        assert inside.sum() == instance.mask.sum()
        assert inside[0].any() and inside[-1].any()
        assert inside[:, 0].any() and inside[:, -1].any()
    assert taken.max(initial=0) <= 1  # occlusion is solved
    # Classes that only things have lie nowhere outside of the instances.
    stuff = {row.name for row in WORLDS[layout].stuff}
    for label, name in enumerate(scene_classes(layout)):
        if name not in stuff | {'background'}:
            assert not (scene.labels == label)[taken == 0].any()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.integers(0, 8),
            st.integers(1, 5),
            st.integers(1, 5),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_give_the_mask_back(boxes):
    mask = np.zeros((12, 14), bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    polygons = [np.ravel(p).tolist() for p in Instance(1, mask).polygons]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
    filled = coco_mask.decode(runs) == 1
    missed = filled != mask
    # Only holes, closed in on all sides, may differ.
    assert not (mask & ~filled).any()
    assert not missed[0].any() and not missed[:, 0].any()
    if len(boxes) < 3:
        assert not missed.any()


def test_every_class_is_common_and_large():
    for layout in LAYOUTS:
        labels = np.stack([scene.labels for scene in render(layout, 60)])
        for label, name in enumerate(scene_classes(layout)):
            present = (labels == label).any((1, 2)).mean()
            share = (labels == label).mean()
            assert present > 0.25, (layout, name)
            assert share > 0.007, (layout, name)


def pixels(scenes, name, rng):
    """Up to 200 pixels of a class per scene: [(R, G, B, row)]."""
    label = scene_classes('ade20k').index(name)
    out = []
    for scene in scenes:
        where = np.argwhere(scene.labels == label)
        if len(where):
            where = where[rng.integers(len(where), size=200)]
            colours = scene.image[tuple(where.T)]
            out.append(np.column_stack([colours, where[:, 0]]))
    return np.concatenate(out).astype(float)


def separability(a, b):
    """Best accuracy of one threshold between two samples, 0.5 to 1."""
    cuts = np.unique(np.concatenate([a, b]))
    below = [
        np.searchsorted(np.sort(s), cuts, 'right') / len(s) for s in (a, b)
    ]
    return 0.5 + np.abs(below[0] - below[1]).max() / 2


@pytest.mark.parametrize(
    'first, second',
    [
        ('sky', 'sea'),
        ('tree', 'grass'),
        ('building', 'road'),
        ('mountain', 'road'),
        ('boat', 'car'),
    ],
)
def test_colour_does_not_tell_the_pair(ade20k, first, second):
    rng = np.random.default_rng(0)
    a, b = (pixels(ade20k, name, rng) for name in (first, second))
    for channel in range(3):
        assert separability(a[:, channel], b[:, channel]) < 0.65


def test_place_tells_sky_from_sea(ade20k):
    rng = np.random.default_rng(0)
    sky, sea = (pixels(ade20k, name, rng)[:, 3] for name in ('sky', 'sea'))
    assert separability(sky, sea) > 0.9


@pytest.mark.parametrize(
    'name, ground, other', [('boat', 'sea', 'grass'), ('car', 'grass', 'sea')]
)
def test_ground_tells_boat_from_car(ade20k, name, ground, other):
    # Just below the feet of an object there is its own ground.
    label, ground, other = map(
        scene_classes('ade20k').index, (name, ground, other)
    )
    seen = []
    for scene in ade20k:
        for instance in scene.instances:
            x, y, width, height = instance.bbox
            below = scene.labels[y + height : y + height + 2, x : x + width]
            if instance.label == label:
                seen.extend(below.ravel())
    seen = np.bincount(seen, minlength=10)
    assert seen[ground] > 8 * seen[other]


OBJECTS = [
    ('coco', 'boat', 'sea'),
    ('coco', 'bird', None),
    ('voc', 'aeroplane', None),
    ('cityscapes', 'bicycle', None),  # without its rider
    ('ade20k', 'boat', 'sea'),
]


@pytest.mark.parametrize(('layout', 'name', 'ground'), OBJECTS)
@pytest.mark.parametrize('size', [(40, 40), (37, 61)])
def test_one_object(layout, name, ground, size):
    classes = scene_classes(layout)
    middles = []
    for index in range(6):
        scene = render_object(layout, name, index, size=size)
        assert scene.image.shape == (*size, 3)
        assert scene.labels.shape == size
        assert classes[scene.main.label] == name
        assert {i.label for i in scene.instances} - {0} == {scene.main.label}
        assert scene.main.mask.mean() >= MIN_SHARE
        assert (scene.labels[scene.main.mask] == scene.main.label).all()
        x, y, width, height = scene.main.bbox
        middles.append([x + width / 2, y + height / 2])
        if ground in classes:
            assert (scene.labels == classes.index(ground)).any()
    # The windows follow the objects.
    for middle, side in zip(np.mean(middles, 0), reversed(size)):
        assert 0.3 < middle / side < 0.7


def test_one_object_is_reproducible():
    first, again, other, seed = (
        render_object('coco', 'car', index, size=(40, 48), seed=seed)
        for index, seed in ((3, 0), (3, 0), (4, 0), (3, 1))
    )
    assert (first.image == again.image).all()
    assert (first.main.mask == again.main.mask).all()
    for scene in (other, seed):
        assert (first.image != scene.image).mean() > 0.5


@pytest.mark.parametrize(
    'kwargs, match',
    [
        (dict(layout='kitti'), r"layout must be one of .*'kitti'"),
        (dict(name='building'), "name must be one of .*'bus'.*'building'"),
        (dict(index=-1), 'index must be .* at least 0, got -1'),
        (dict(size=(128, 31)), r'at least 32 pixels, got size=\(128, 31\)'),
    ],
)
def test_errors_of_one_object(kwargs, match):
    arguments = dict(dict(layout='coco', name='car', index=0), **kwargs)
    with pytest.raises(ValueError, match=match):
        render_object(**arguments)


@pytest.mark.parametrize(
    'kwargs, match',
    [
        (dict(layout='kitti'), r"layout must be one of .*'kitti'"),
        (dict(index=-1), 'index must be .* at least 0, got -1'),
        (dict(seed=-2), 'seed must be .* at least 0, got -2'),
        (dict(size=(128, 31)), r'at least 32 pixels, got size=\(128, 31\)'),
        (dict(size=(128,)), r'size must be \(H, W\)'),
        (dict(size=(64.5, 64)), 'two integers'),
    ],
)
def test_errors(kwargs, match):
    arguments = dict(dict(layout='ade20k', index=0), **kwargs)
    with pytest.raises(ValueError, match=match):
        render_scene(**arguments)
