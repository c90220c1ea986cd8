import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmcv')

from mmea.errors import UserError
from mmea.point_clouds.clouds import read_cloud, read_off, sample_mesh
from mmea.registry import DATASETS

SQUARE = 'OFF\n# a square\n4 1 0\n0 0 1\n2 0 1\n2 2 1\n0 2 1\n4 0 1 2 3 9 9\n'
#: As some of ModelNet's are: no end of line behind OFF.
TRIANGLE = 'OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n'


def rng():
    return np.random.default_rng(0)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def build(name, root, split='train', **kwargs):
    cfg = dict(type=f'mmea.{name}', data_root=str(root), split=split)
    return DATASETS.build({**cfg, **kwargs})


def rows(number, columns=3, first=0):
    return np.arange(first, first + number * columns).reshape(number, columns)


class TestMesh:
    def test_faces_of_four_corners(self, tmp_path):
        points, faces = read_off(write(tmp_path / 'a.off', SQUARE))
        assert points.tolist() == [[0, 0, 1], [2, 0, 1], [2, 2, 1], [0, 2, 1]]
        assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]

    def test_points_are_even_on_the_surface(self, tmp_path):
        """As many in each part as its area says."""
        mesh = read_off(write(tmp_path / 'a.off', TRIANGLE))
        x, y, z = sample_mesh(*mesh, 20_000, rng(), tmp_path).T
        assert min(x.min(), y.min()) >= 0 and (x + y).max() <= 1
        assert not z.any()
        # A quarter of the triangle each.
        for part in (x > 0.5, y > 0.5, x + y < 0.5):
            assert abs(part.mean() - 0.25) < 0.015
        # A large and a small triangle, and one without a surface.
        faces = [[0, 1, 2], [0, 1, 3], [0, 1, 1]]
        points = np.array([[0, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 1.0]])
        found = sample_mesh(points, np.array(faces), 20_000, rng(), tmp_path)
        assert abs((found[:, 2] > 0).mean() - 0.25) < 0.015

    @pytest.mark.parametrize(
        ('text', 'match'),
        [
            ('ply\n', 'does not begin with OFF'),
            ('OFF\n4 1 0\n0 0 1\n', 'it ends before vertices=4 and faces=1'),
            ('OFF\n', 'no mesh in OFF'),
            (TRIANGLE.replace('3 0 1 2', '3 0 1 3'), 'that is not there'),
            (TRIANGLE.replace('1 0 0', '1 0'), 'no mesh in OFF'),
            (TRIANGLE.replace('1 0 0', '1 nan 0'), 'a vertex is not finite'),
            ('OFF\n0 0 0\n', 'vertices must be x y z'),
        ],
    )
    def test_bad_meshes(self, text, match, tmp_path):
        with pytest.raises(UserError, match=match):
            read_off(write(tmp_path / 'a.off', text))

    def test_no_surface(self, tmp_path):
        path = write(tmp_path / 'a.off', TRIANGLE.replace('0 1 0', '2 0 0'))
        with pytest.raises(UserError, match='a.off has no surface'):
            read_cloud(path, 5, rng())


@pytest.mark.parametrize('data', [b'', b'PK\x03\x04', b'\x93NUMPY\x01\x00'])
def test_a_damaged_file_of_points(tmp_path, data):
    (tmp_path / 'a.npy').write_bytes(data)
    match = 'cannot read the points of .*a.npy: it is damaged'  # no pickle
    with pytest.raises(UserError, match=match):
        read_cloud(tmp_path / 'a.npy', 5, rng())


def test_files_of_points(tmp_path):
    want = rows(4, 6)
    np.save(tmp_path / 'a.npy', want)
    write(tmp_path / 'a.txt', '\n'.join(','.join(map(str, r)) for r in want))
    write(tmp_path / 'a.pts', '\n'.join(' '.join(map(str, r)) for r in want))
    for name in ('a.npy', 'a.txt', 'a.pts'):
        got = read_cloud(tmp_path / name, 9, rng())
        assert got.dtype == np.float32 and np.array_equal(got, want)
    write(tmp_path / 'b.txt', '1 2\n3 4\n')
    np.save(tmp_path / 'b.npy', np.array([{}], dtype=object))
    for name, match in (
        ('b.txt', r'rows of 3 numbers or more, \(N, C\), got \(2, 2\)'),
        ('b.npy', 'cannot read the points of .*b.npy'),
        ('c.txt', 'cannot read the points of .*c.txt'),
    ):
        with pytest.raises(UserError, match=match):
            read_cloud(tmp_path / name, 9, rng())


class TestModelNet:
    def test_folders(self, tmp_path):
        for kind, text in (('sofa', SQUARE), ('bed', TRIANGLE)):
            for split in ('train', 'test'):
                write(tmp_path / kind / split / f'{kind}.off', text)
        (tmp_path / 'bed/train/b.npy').parent.mkdir(exist_ok=True)
        np.save(tmp_path / 'bed/train/a.npy', rows(9))
        data = build('ModelNet', tmp_path, num_points=6)
        assert data.metainfo['classes'] == ('bed', 'sofa')
        labels = [data[i]['data_samples'].gt_label.tolist() for i in range(3)]
        assert len(data) == 3 and labels == [[0], [0], [1]]
        item = data[0]
        assert torch.equal(item['inputs'], torch.tensor(rows(6)).float())
        assert item['data_samples'].path.endswith('bed/train/a.npy')
        # The same points of a mesh each time, or others.
        assert torch.equal(data[2]['inputs'], data[2]['inputs'])
        assert data[2]['inputs'][:, 2].eq(1).all()
        other = build('ModelNet', tmp_path, num_points=6, seed=None)
        assert not torch.equal(other[2]['inputs'], other[2]['inputs'])
        few = build('ModelNet', tmp_path, 'test', classes=['sofa'])
        assert len(few) == 1 and few[0]['data_samples'].gt_label == 0

    def test_lists(self, tmp_path):
        """The resampled set, whose files have commas and normals."""
        write(tmp_path / 'modelnet40_train.txt', 'tv_stand_0001\nbed_0002\n')
        for stem in ('tv_stand_0001', 'bed_0002'):
            text = '\n'.join(','.join(map(str, r)) for r in rows(5, 6))
            kind = stem.rpartition('_')[0]
            write(tmp_path / kind / f'{stem}.txt', text)
        data = build('ModelNet', tmp_path, num_points=4, channels=6)
        assert data.metainfo['classes'] == ('bed', 'tv_stand')
        item = data[0]
        assert item['data_samples'].gt_label == 1
        assert torch.equal(item['inputs'], torch.tensor(rows(4, 6)).float())
        # A class that the test lacks does not shift the others.
        write(tmp_path / 'modelnet40_test.txt', 'tv_stand_0001\n')
        data = build('ModelNet', tmp_path, split='test', num_points=4)
        assert data[0]['data_samples'].gt_label == 1
        with pytest.raises(UserError, match='5 points, fewer than .*=8; low'):
            build('ModelNet', tmp_path, num_points=8)[0]
        with pytest.raises(UserError, match='6 columns, and channels=7'):
            build('ModelNet', tmp_path, num_points=4, channels=7)[0]

    def test_h5(self, tmp_path):
        h5py = pytest.importorskip('h5py')
        for i in range(2):
            with h5py.File(tmp_path / f'ply_data_train{i}.h5', 'w') as file:
                file['data'] = np.stack([rows(7, first=i), rows(7) + 5])
                file['label'] = np.array([[i], [1]], dtype=np.uint8)
        write(tmp_path / 'shape_names.txt', 'bed\nsofa\n')
        data = build('ModelNet', tmp_path, num_points=5)
        labels = [int(data[i]['data_samples'].gt_label) for i in range(4)]
        assert labels == [0, 1, 1, 1]
        assert data.metainfo['classes'] == ('bed', 'sofa')
        want = torch.tensor(rows(5, first=1)).float()
        assert torch.equal(data[2]['inputs'], want)
        write(tmp_path / 'ply_data_test0.h5', 'no such thing')
        with pytest.raises(UserError, match='cannot read .*ply_data_test0'):
            build('ModelNet', tmp_path, 'test')

    def test_without_h5py(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
        write(tmp_path / 'ply_data_train0.h5', '')
        with pytest.raises(UserError, match='needs h5py, .*extra "points"'):
            build('ModelNet', tmp_path)

    def test_a_class_without_clouds(self, tmp_path):
        write(tmp_path / 'bed/train/a.txt', '1 2 3\n' * 4)
        write(tmp_path / '.cache/train/a.json', '')
        (tmp_path / 'sofa/test').mkdir(parents=True)
        (tmp_path / 'sofa/train').mkdir()
        data = build('ModelNet', tmp_path, num_points=4)
        assert data.metainfo['classes'] == ('bed', 'sofa') and len(data) == 1
        with pytest.raises(UserError, match='no cloud of the split .test.'):
            build('ModelNet', tmp_path, 'test', num_points=4)
        write(tmp_path / 'sofa/train/a.xyz', '1 2 3\n')
        with pytest.raises(
            UserError, match='sofa/train has files, but no clouds'
        ):
            build('ModelNet', tmp_path, num_points=4)

    def test_a_transposed_cloud(self, tmp_path):
        (tmp_path / 'bed/train').mkdir(parents=True)
        np.save(tmp_path / 'bed/train/a.npy', rows(4, 9))
        with pytest.raises(UserError, match=r'is a point: transpose \(4, 9'):
            build('ModelNet', tmp_path, num_points=8)[0]

    def test_bad_folders(self, tmp_path):
        with pytest.raises(UserError, match='data_root=.*is no folder'):
            build('ModelNet', tmp_path / 'gone')
        with pytest.raises(UserError, match='no cloud of the split .train.'):
            build('ModelNet', tmp_path)
        (tmp_path / 'bed/train').mkdir(parents=True)
        with pytest.raises(UserError, match='no cloud of the split .train.'):
            build('ModelNet', tmp_path)
        with pytest.raises(UserError, match="no class 'sofa'; it has bed"):
            build('ModelNet', tmp_path, classes=['sofa'])
        with pytest.raises(ValueError, match='split must be one of'):
            build('ModelNet', tmp_path, 'val')


class TestShapeNetPart:
    @staticmethod
    def make(root, part=5):
        for split, names in (
            ('train', ['shape_data/02691156/a', 'shape_data/02773838/b']),
            ('val', ['shape_data/02773838/c']),
        ):
            file = f'shuffled_{split}_file_list.json'
            write(root / 'train_test_split' / file, json.dumps(names))
        for name, label in (
            ('02691156/a', 3),
            ('02773838/b', 4),
            ('02773838/c', part),
        ):
            table = np.column_stack([rows(6, 6), np.full(6, float(label))])
            text = '\n'.join(' '.join(map(str, r)) for r in table)
            write(root / f'{name}.txt', text)

    def test_text(self, tmp_path):
        self.make(tmp_path)
        data = build('ShapeNetPart', tmp_path, 'trainval', num_points=4)
        assert len(data) == 3
        samples = [data[i]['data_samples'] for i in range(3)]
        assert [int(s.gt_label) for s in samples] == [0, 1, 1]
        assert [s.gt_parts.tolist() for s in samples] == [
            [3] * 4,
            [4] * 4,
            [5] * 4,
        ]
        points = data[0]['inputs']
        assert len({*map(tuple, points.tolist())}) == 4  # without repeats
        assert {*map(tuple, points.tolist())} <= {
            *map(tuple, rows(6, 6)[:, :3].tolist())
        }
        more = build('ShapeNetPart', tmp_path, num_points=20)[0]['inputs']
        assert more.shape == (20, 3)

    def test_h5(self, tmp_path):
        h5py = pytest.importorskip('h5py')
        with h5py.File(tmp_path / 'ply_data_test0.h5', 'w') as file:
            file['data'] = np.stack([rows(7), rows(7) + 5])
            file['label'] = np.array([[15], [2]])
            file['pid'] = np.array([[47] * 7, [6, 7, 6, 7, 6, 7, 6]])
        data = build('ShapeNetPart', tmp_path, 'test', num_points=5)
        item = data[1]
        assert item['data_samples'].gt_parts.tolist() == [6, 7, 6, 7, 6]
        want = torch.tensor(rows(5) + 5).float()
        assert torch.equal(item['inputs'], want)
        with h5py.File(tmp_path / 'ply_data_test0.h5', 'a') as file:
            file['label'][0] = 16
        data = build('ShapeNetPart', tmp_path, 'test', num_points=5)
        with pytest.raises(UserError, match='has the label 16; classes are 0'):
            data[0]

    def test_parts(self, tmp_path):
        self.make(tmp_path, part=6)
        data = build('ShapeNetPart', tmp_path, 'val', num_points=4)
        parts = data.metainfo['parts']
        assert sum(parts, ()) == tuple(range(50))
        assert parts[4] == (12, 13, 14, 15)  # a chair's
        with pytest.raises(UserError, match='c.txt is a Bag, .* 4 to 5, .*6'):
            data[0]

    def test_bad_lists(self, tmp_path):
        with pytest.raises(UserError, match='no cloud of the split .test.'):
            build('ShapeNetPart', tmp_path, 'test')
        path = tmp_path / 'train_test_split/shuffled_test_file_list.json'
        for text in ('{', '["a/b"]', '[3]'):
            write(path, text)
            with pytest.raises(UserError, match='must list names such as'):
                build('ShapeNetPart', tmp_path, 'test')
