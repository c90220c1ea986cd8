"""The benchmarks of point clouds: what they draw, plan, fit and write."""

import gzip
import json
import sys
import zipfile

import numpy as np
import pytest

from benchmarks import point_clouds, point_layers
from mmea.cli.common import load_config, make_parser
from mmea.registry import DATASETS


def test_points_lie_in_the_voxels():
    grid = np.zeros((4, 4, 4), bool)
    grid[1, 2, 3] = grid[3, 0, 0] = True
    cloud = point_clouds.draw(grid, np.random.default_rng(0), 50)
    assert cloud.shape == (50, 3) and len(np.unique(cloud, axis=0)) == 50
    nearest = np.unique(cloud.round(), axis=0)
    assert nearest.tolist() == [[1, 2, 3], [3, 0, 0]]


@pytest.fixture
def data(tmp_path):
    """Both sets, of 12 chairs, 7 monitors and a cube."""
    source = tmp_path / 'source'
    source.mkdir()
    for kind, number in (('chair', 12), ('monitor', 7)):
        grids = np.zeros((number + 1, 1, 4, 4, 4))
        grids[1:, 0, 0, 0, :2] = 1
        with gzip.open(source / f'{kind}.npy.gz', 'wb') as file:
            np.save(file, grids)
    with zipfile.ZipFile(source / 'geometric_shapes.zip', 'w') as archive:
        for split in ('train', 'test'):
            archive.writestr(
                f'raw/plate/{split}/plate.off',
                'OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n',
            )
    root = tmp_path / 'data'
    root.mkdir()
    for _ in range(2):  # the second time nothing is written
        point_clouds.prepare(source, root)
    return root


def build(arguments, part):
    name, changes = arguments
    args = make_parser('', '').parse_args([name, '--cfg-options', *changes])
    cfg = load_config(args)
    return cfg, DATASETS.build(cfg[f'{part}_dataloader'].dataset)


def test_runs(data):
    arguments = point_clouds.options('voxels', 'none', 3, 1, data)
    cfg, train = build(arguments, 'train')
    assert cfg.model.backbone.attention is None
    assert cfg.randomness.seed == 1
    labels = [int(item['data_samples'].gt_label) for item in train]
    assert labels == [0, 0, 0, 1, 1, 1]
    paths = {item['data_samples'].path for item in train}
    assert len(paths) == 6
    other = build(point_clouds.options('voxels', 'self', 3, 2, data), 'train')
    assert {item['data_samples'].path for item in other[1]} != paths
    # Numbers 5 and 10 of the chairs, 5 of the monitors.
    assert len(build(arguments, 'val')[1]) == 3
    arguments = point_clouds.options('voxels', 'external', 'all', 0, data)
    cfg, train = build(arguments, 'train')
    assert len(train) == 12 - 2 + 7 - 1
    assert cfg.model.backbone.attention.external
    turned = build(
        point_clouds.options('turned', 'external', 'all', 0, data), 'train'
    )[1]
    for one, other in zip(train, turned):
        # The same points, in another orientation.
        a, b = (x['inputs'] - x['inputs'].mean(0) for x in (one, other))
        assert (a - b).abs().max() > 0.1
        assert a.norm(dim=1).std() == pytest.approx(
            float(b.norm(dim=1).std()), rel=1e-3
        )
    turn = point_clouds.rotation(np.random.default_rng(3))
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1)
    arguments = point_clouds.options('shapes', 'self', 'all', 0, data)
    cfg, train = build(arguments, 'train')
    assert len(train) == 1 and train[0]['inputs'].shape == (512, 3)


def test_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def train(case, member, clouds, seed, _):
        asked.append((case, clouds, member, seed))
        value = 50.0 + 10 * (member == 'external') + seed
        row = dict(zip(('case', 'clouds', 'member', 'seed'), asked[-1]))
        return row | {
            'accuracy/class': value,
            'cpu_seconds': 9,
        }

    monkeypatch.setattr(point_clouds, 'train', train)
    monkeypatch.setattr(point_clouds, 'prepare', lambda *_: None)
    for number in ('7', '100'):
        options = ['--source', 'x', '--out', str(tmp_path), '--runs', number]
        options += ['--data', str(tmp_path)]
        monkeypatch.setattr(sys, 'argv', ['run', *options])
        point_clouds.main()
    assert len(asked) == len(set(asked)) == 54
    lines = (tmp_path / 'runs.jsonl').read_text().splitlines()
    assert [json.loads(line)['seed'] for line in lines] == sorted(
        [0, 1, 2] * 18
    )
    text = (tmp_path / 'README.md').read_text()
    row = next(x for x in text.splitlines() if x.startswith('| voxels, 5'))
    assert '50.0' in row and '61.00 ± 1.00 (3 runs)' in row
    assert row.count('+10.00 [+10.00, +10.00]') == 2


def test_layers(tmp_path, monkeypatch):
    options = ['--sides', '40', '56', '60', '--rounds', '1', '--limit', '9']
    out = tmp_path / 'points'
    monkeypatch.setattr(point_layers, 'CHANNELS', 8)
    monkeypatch.setattr(sys, 'argv', ['run', *options, '--out', str(out)])
    point_layers.main()
    text = (out / 'cost.md').read_text()
    assert '3,136' in text and '3,600' in text
    assert text.count('| external, plain') == text.count('| self, plain') == 2
    assert (out / 'cost.png').is_file()
    own = {s: dict(seconds=3.0 * s**4) for s in (32, 56, 100, 178)}
    own[32]['seconds'] = 1.0  # too few points to count
    assert point_layers.growth(own, 'seconds') == '2.00'
    assert point_layers.growth({56: own[56]}, 'seconds') == '-'


def test_packed_clouds(tmp_path, monkeypatch):
    monkeypatch.setattr(point_layers, 'CHANNELS', 8)
    monkeypatch.setattr(point_layers, 'SHARES', (0.5,))
    options = ['--packed', '--points', '56', '--rounds', '1']
    monkeypatch.setattr(sys, 'argv', ['run', *options, '--out', str(tmp_path)])
    point_layers.main()
    text = (tmp_path / 'packed.md').read_text()
    assert text.count(' 50% ') == 2
