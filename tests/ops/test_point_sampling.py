import math

import pytest
import torch

from mmea.ops import (
    furthest_points,
    gather_points,
    group_neighbours,
    nearest_points,
    point_sampling,
)
from tests.host_oracle import host_cases
from tests.test_oracle import Case


def cloud(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def squared(p, q):
    return sum((a - b) ** 2 for a, b in zip(p.tolist(), q.tolist()))


def naive_furthest(points, number, mask, skip):
    """Point by point, in lists of numbers."""
    found = []
    for image, valid in zip(points, mask.tolist()):
        chosen = [valid.index(True)]
        while len(chosen) < number:
            best, best_distance = chosen[0], -1.0
            for i, point in enumerate(image):
                near = squared(point, 0 * point) <= 1e-3
                if not valid[i] or (skip and near):
                    continue
                distance = min(squared(point, image[j]) for j in chosen)
                if distance > best_distance:
                    best, best_distance = i, distance
            chosen.append(best)
        found.append(chosen)
    return torch.tensor(found)


@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('size', [(1, 9, 3), (3, 17, 2)])
def test_furthest_points(size, masked, skip):
    points = cloud(*size)
    points[:, 3::4] *= 1e-3  # near the origin
    mask = torch.ones(size[:2], dtype=torch.bool)
    if masked:
        mask[:, 0] = mask[0, 4] = False
        points[~mask] = math.nan
    got = furthest_points(
        points, 7, mask=mask if masked else None, skip_near_origin=skip
    )
    want = naive_furthest(points, 7, mask, skip)
    assert torch.equal(got, want)
    assert torch.equal(
        furthest_points(points.float(), 7, mask=mask, skip_near_origin=skip),
        want,
    )


def test_furthest_points_on_ties():
    """The first of several; and points come again when all are taken."""
    square = torch.tensor([[[0.0, 0], [1, 1], [1, -1], [-1, 1], [-1, -1]]])
    assert furthest_points(square, 5).tolist() == [[0, 1, 2, 3, 4]]
    copies = torch.ones(1, 4, 3)
    copies[0, 2] = 2
    assert furthest_points(copies, 4).tolist() == [[0, 2, 0, 0]]
    # All near the origin: the first stands for all.
    zeros = torch.zeros(2, 4, 3)
    got = furthest_points(zeros, 3, skip_near_origin=True)
    assert got.tolist() == [[0] * 3] * 2


@pytest.mark.parametrize('pairs', [1, 40, 2**24])
@pytest.mark.parametrize('masked', [False, True])
def test_nearest_points(masked, pairs, monkeypatch):
    """In one piece and query by query."""
    monkeypatch.setattr(point_sampling, 'MAX_PAIRS', pairs)
    points, queries = cloud(2, 11, 3), cloud(2, 5, 3, seed=1)
    queries[:, 2] = points[:, 6]
    mask = None
    if masked:
        mask = torch.ones(2, 11, dtype=torch.bool)
        mask[0, 2:6] = mask[1, 9:] = False
        points[~mask] = math.nan
    got = nearest_points(points, queries, 4, mask=mask)
    for i in range(2):
        for j in range(5):
            order = sorted(
                (n for n in range(11) if not masked or mask[i, n]),
                key=lambda n: squared(points[i, n], queries[i, j]),
            )
            assert got[i, j].tolist() == order[:4]
    assert got[:, 2, 0].tolist() == [6, 6]


def test_nearest_points_on_ties():
    """Of a lattice: any of the equally near ones, each once."""
    axis = torch.arange(4.0)
    points = torch.cartesian_prod(axis, axis, axis)[None]
    got = nearest_points(points, points, 9)
    distances = (gather_points(points, got) - points[:, :, None]).norm(dim=3)
    want = torch.cdist(points, points).sort()[0][..., :9]
    torch.testing.assert_close(distances, want)
    assert got.sort()[0].diff().min() > 0
    assert torch.equal(got[0, :, 0], torch.arange(64))


def test_near_points_far_from_the_origin():
    """A product of matrices would lose them in single precision."""
    points = torch.tensor([[[1000.0], [1000.1], [1000.3], [1000.6]]])
    points = torch.cat([points, torch.zeros(1, 40, 1)], 1)
    got = nearest_points(points, points[:, :4], 2)
    assert got[0].tolist() == [[0, 1], [1, 0], [2, 1], [3, 2]]


def test_gathering():
    features = cloud(2, 6, 3).requires_grad_()
    near = torch.tensor([[[0, 5], [2, 2], [1, 0]], [[3, 4], [5, 5], [0, 1]]])
    centres = torch.tensor([[0, 2, 1], [4, 5, 0]])
    got = group_neighbours(features, near, centres)
    assert got.shape == (2, 3, 2, 6)
    for i in range(2):
        for j in range(3):
            centre = features[i, centres[i, j]]
            for k in range(2):
                one = features[i, near[i, j, k]] - centre
                assert torch.equal(got[i, j, k], torch.cat([one, centre]))
    gather_points(features, near).sum().backward()
    times = torch.stack([(near[i] == 5).sum() for i in range(2)])
    assert torch.equal(features.grad[:, 5, 0], times.double())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    points = cloud(2, 30, 3).to(dtype)
    for function in (furthest_points, lambda x, n: nearest_points(x, x, n)):
        assert torch.equal(function(points, 9), function(points.double(), 9))


def test_bad_input():
    points = cloud(2, 6, 3)
    mask = torch.ones(2, 6, dtype=torch.bool)
    for function in (
        furthest_points,
        lambda x, n, mask=None: nearest_points(x, x[:, :2], n, mask=mask),
    ):
        with pytest.raises(ValueError, match='number=7 .* a cloud of 6; ask'):
            function(points, 7)
        few = mask.clone()
        few[1, 2:] = False
        with pytest.raises(ValueError, match='number=3 .* a cloud of 2; ask'):
            function(points, 3, mask=few)
        for number in (0, True, 2.0):
            with pytest.raises(ValueError, match='number must be an int'):
                function(points, number)
        with pytest.raises(ValueError, match=r'points must be .* \(2, 6\)'):
            function(points[..., 0], 2)
        with pytest.raises(ValueError, match='points must be floating'):
            function(points.long(), 2)
        with pytest.raises(ValueError, match='mask must be bool'):
            function(points, 2, mask=mask.float())
        bad = points.clone()
        bad[1, 4, 0] = math.inf
        with pytest.raises(ValueError, match='points .* inf in cloud 1 of'):
            function(bad, 2)
    with pytest.raises(ValueError, match='queries must be .* D of the points'):
        nearest_points(points, points[:1], 2)


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('pct_fps'))
def test_recorded_furthest_points(path):
    case = Case(path)
    number = case.meta['ctor']['n_samples']
    got = furthest_points(case.x.detach(), number, skip_near_origin=True)
    assert torch.equal(got, case['output/idx'])


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('pct_sample_and_group'))
def test_recorded_groups(path):
    case = Case(path)
    xyz, centres = case['input/xyz'].requires_grad_(), case['input/fps_idx']
    number = case.meta['ctor']['nsample']
    assert torch.equal(
        furthest_points(xyz, centres.shape[1], skip_near_origin=True), centres
    )
    new_xyz = gather_points(xyz, centres)
    near = nearest_points(xyz, new_xyz, number)
    outs = dict(
        new_xyz=new_xyz, new_points=group_neighbours(case.x, near, centres)
    )
    for name, out in outs.items():
        case.compare(out, f'output/{name}')
    loss = sum((o * case[f'cotangent/{n}']).sum() for n, o in outs.items())
    loss.backward()
    case.compare(case.x.grad, 'grad/input')
    case.compare(xyz.grad, 'grad/input/xyz')
