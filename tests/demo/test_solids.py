"""Clouds of solids, and the layouts that they are written in."""

import json

import numpy as np
import pytest

pytest.importorskip('mmcv')

from mmea.demo import solids, write_demo
from mmea.demo.cloud_writers import MODELNET, SHAPENET
from mmea.demo.solids import PARTS, render_solid
from mmea.errors import UserError
from mmea.registry import DATASETS


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(solids, 'NOISE', 0.0)


def read(name, root, split):
    kind = dict(type=f'mmea.{name}', data_root=str(root), split=split)
    return DATASETS.build(dict(kind, num_points=40))


def of(cloud, part):
    own = cloud.parts == PARTS[cloud.kind].index(part)
    return cloud.points[own], cloud.normals[own]


@pytest.mark.parametrize('kind', PARTS)
def test_a_solid(kind):
    """It stands on the ground; all of its parts occur, some not always."""
    clouds = [render_solid(kind, i, 200, 0) for i in range(12)]
    for cloud in clouds:
        assert cloud.points.shape == cloud.normals.shape == (200, 3)
        lengths = np.linalg.norm(cloud.normals, axis=1)
        assert lengths == pytest.approx(1)
        assert -0.3 < cloud.points[:, 2].min() < 0.3
        assert cloud.points[:, 2].max() > 0.4
    labels = [set(cloud.parts.tolist()) for cloud in clouds]
    assert set.union(*labels) == set(range(len(PARTS[kind])))
    again = render_solid(kind, 3, 200, 0)
    assert np.array_equal(again.points, clouds[3].points)
    assert not np.array_equal(
        again.points, render_solid(kind, 3, 200, 1).points
    )


def test_surfaces():
    """Normals look outwards, and points are as many as the area says."""
    cloud = render_solid('stool', 0, 4000, 0)
    points, normals = of(cloud, 'seat')
    low, high = points[:, 2].min(), points[:, 2].max()
    top = np.isclose(points[:, 2], high)
    assert np.all(normals[top, 2] == 1)
    assert np.all(normals[np.isclose(points[:, 2], low), 2] == -1)
    walls = ~top & (points[:, 2] > low + 1e-9)
    assert np.all((points * normals).sum(1)[walls] > 0)
    # Top and bottom have one area.
    assert 0.85 < top.sum() / (~top & ~walls).sum() < 1.18
    points, normals = of(render_solid('mug', 1, 4000, 0), 'body')
    side = normals[:, 2] < 0.9
    assert np.all((points * normals)[side, :2].sum(1) > 0)
    # A cone has three quarters of its surface in the lower half.
    *_, draw = solids._tube('nose', [0, 0, 0], [0, 0, 2], 1.5, 0)
    points, normals = draw(np.random.default_rng(0), 4000)
    assert abs((points[:, 2] < 1).mean() - 0.75) < 0.02
    reach = np.linalg.norm(points[:, :2], axis=1)
    assert reach == pytest.approx(1.5 * (1 - points[:, 2] / 2))
    assert normals[:, 2] == pytest.approx(1.5 / 2.5)


def test_both_sides_of_a_board():
    points, normals = of(render_solid('laptop', 0, 500, 0), 'screen')
    first = normals[0]
    sides = np.unique(np.sign(normals @ first))
    assert sides.tolist() == [-1, 1]
    depth = points @ first
    assert np.ptp(depth[normals @ first > 0]) == pytest.approx(0, abs=1e-9)
    assert depth[normals @ first > 0].min() > depth[normals @ first < 0].max()


def test_modelnet(tmp_path):
    root = write_demo(
        'modelnet', tmp_path / 'set', num_train=8, num_val=6, size=(48,)
    )
    for split, number in (('train', 8), ('test', 6)):
        dataset = read('ModelNet', root, split)
        assert dataset.metainfo['classes'] == MODELNET and len(MODELNET) == 40
        names = [MODELNET[int(s['data_samples'].gt_label)] for s in dataset]
        assert len(names) == number
        assert set(names) == {
            'chair',
            'cup',
            'lamp',
            'laptop',
            'stool',
            'table',
        }
        for sample in dataset:
            assert f'/{split}/' in sample['data_samples'].path
    want = render_solid('chair', 0, 48, 0).points
    path = root / 'chair/train/chair_0001.txt'
    assert np.loadtxt(path)[:, :3] == pytest.approx(want, abs=1e-5)


def test_shapenet_part(tmp_path):
    root = write_demo(
        'shapenetpart', tmp_path / 'set', num_train=7, num_val=6, size=(48,)
    )
    assert [
        len(read('ShapeNetPart', root, split))
        for split in ('trainval', 'test')
    ] == [7, 6]
    train = read('ShapeNetPart', root, 'trainval')
    meta = train.metainfo
    names = {kind: list(PARTS[kind]) for kind in SHAPENET}
    assert meta['part_names'] == {SHAPENET[k][0]: n for k, n in names.items()}
    for kind, sample in zip([*SHAPENET, 'chair'], train):
        label = int(sample['data_samples'].gt_label)
        name, folder, first = SHAPENET[kind]
        assert meta['classes'][label] == name
        assert f'/{folder}/' in sample['data_samples'].path
        own = meta['parts'][label]
        assert own[0] == first and len(own) >= len(PARTS[kind])
    # As rendered, but y upwards.
    cloud = render_solid('chair', 0, 48, 0)
    rows = np.loadtxt(root / '03001627/train_0001.txt')
    x, y, z = cloud.points.T
    assert rows[:, :3] == pytest.approx(np.stack([x, z, -y], 1), abs=1e-5)
    assert rows[:, 6].tolist() == (12 + cloud.parts).tolist()


def test_names_of_parts_that_are_none(tmp_path):
    root = write_demo('shapenetpart', tmp_path / 'set', num_train=1, num_val=1)
    file = root / 'part_names.json'
    for names, match in (
        (dict(Mug=['a', 'b', 'c']), 'names 3 parts of Mug, which has 2'),
        (dict(Pot=['a']), "must be such as .*KeyError: 'Pot'"),
        ([1], 'must be such as .*AttributeError'),
    ):
        file.write_text(json.dumps(names))
        with pytest.raises(UserError, match=match):
            read('ShapeNetPart', root, 'train')
