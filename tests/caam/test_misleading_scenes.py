import numpy as np
import pytest

from mmea.caam import MisleadingScenes
from mmea.demo.render import render_lone
from mmea.demo.shapes import GROUNDS, LONE_THINGS
from mmea.registry import DATASETS

GROUND_OF = dict(zip(LONE_THINGS, GROUNDS))


def build(split, number=60, **kwargs):
    return DATASETS.build(
        dict(
            type='mmea.MisleadingScenes',
            split=split,
            number=number,
            size=(32, 40),
            **kwargs,
        )
    )


@pytest.mark.parametrize('name', LONE_THINGS)
@pytest.mark.parametrize('ground', GROUNDS)
def test_one_object_on_its_ground(name, ground):
    for index in range(4):
        scene = render_lone(name, ground, index, size=(64, 48))
        (thing,) = scene.instances
        assert thing.label == 1 and thing.mask.mean() > 0.01
        assert np.array_equal(scene.labels == 1, thing.mask)
        # It has not the colour of the ground, or nobody could tell.
        rows = np.flatnonzero(thing.mask.any(1))
        around = scene.image[rows[-1]][~thing.mask[rows[-1]]].mean(0)
        assert np.abs(scene.image[thing.mask].mean(0) - around).max() > 5


def test_grounds_in_training_and_validation():
    train, val = build('train', 400), build('val', 200)
    right = [
        info['ground']
        == GROUND_OF[train.metainfo['classes'][info['gt_label']]]
        for info in map(train.get_data_info, range(len(train)))
    ]
    assert 0.9 < np.mean(right) < 1  # 0.95, give or take 0.01
    pairs = {
        (val.metainfo['classes'][info['gt_label']], info['ground'])
        for info in map(val.get_data_info, range(len(val)))
    }
    assert pairs == {
        (name, ground)
        for name in LONE_THINGS
        for ground in GROUNDS
        if ground != GROUND_OF[name]
    }


def test_samples():
    data = build('train', 6, bias=1.0)
    assert [data[i]['gt_label'] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert [data[i]['sample_idx'] for i in range(6)] == list(range(6))
    img = data[2]['img']
    assert img.shape == (32, 40, 3) and img.dtype == np.uint8
    scene = render_lone('person', 'sea', 2, size=(32, 40))
    assert np.array_equal(img[..., ::-1], scene.image)
    # More of them does not change the first ones, another seed does.
    again = build('train', 3, bias=1.0)
    assert np.array_equal(again[2]['img'], img)
    other = build('train', 3, bias=1.0, seed=1)
    assert (other[2]['img'] != img).mean() > 0.5
    assert (build('val', 3)[2]['img'] != img).mean() > 0.5


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(split='test'), "split='test'"),
        (dict(split='train', bias=1.5), 'bias=1.5'),
        (dict(split='train', number=0), 'number must be .* got 0'),
        (dict(split='train', seed=-1), 'seed must be .* got -1'),
        (dict(split='train', size=(16, 64)), 'size'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MisleadingScenes(**{'number': 3, **kwargs})
    for args in (('cow', 'grass'), ('car', 'moon')):
        with pytest.raises(ValueError, match='|'.join(args)):
            render_lone(*args, 0)
