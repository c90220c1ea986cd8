import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import random_boxes

many = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def iou(a, b, offset):
    def side(i):
        return min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset

    inter = max(side(0), 0) * max(side(1), 0)
    areas = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    union = sum(areas) - inter
    return inter / union if union else 0


def plain_nms(boxes, scores, threshold, offset):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[j], boxes[i], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def draw(seed, number, distinct=True):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, number)
    scores = torch.rand(number, generator=generator)
    return boxes, scores if distinct else (scores * 5).round() / 5


@many
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0, 1]))
def test_nms(run, seed, number, offset):
    boxes, scores = draw(seed, number)
    dets, inds = run('nms', 'nms', boxes, scores, 0.45, offset=offset)
    want = plain_nms(boxes.tolist(), scores.tolist(), 0.45, offset)
    assert inds.tolist() == want
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[inds])


def test_threshold_is_that_of_float32(run):
    """An IoU of exactly 0.3 is not above 0.3."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    _, inds = run('nms', 'nms', boxes, torch.tensor([0.9, 0.8]), 0.3)
    assert inds.tolist() == [0, 1]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_nms_in_half_precision(run, dtype):
    boxes, scores = draw(0, 30)
    # Distinct in half precision too: mmcv leaves the order of equals open.
    scores = (scores.argsort() + 1) / 32
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    _, inds = run('nms', 'nms', boxes, scores, 0.45, compiled=False)
    _, want = run('nms', 'nms', boxes.float(), scores.float(), 0.45)
    assert inds.tolist() == want.tolist()


def plain_soft_nms(boxes, scores, threshold, sigma, lowest, method, offset):
    """As it is described: the best box lowers the others; in place."""
    todo = [[*b, s, i] for i, (b, s) in enumerate(zip(boxes, scores))]
    done = []
    while todo:
        at = max(range(len(todo)), key=lambda i: todo[i][4])
        todo[0], todo[at] = todo[at], todo[0]
        best = todo.pop(0)
        done.append(best)
        i = 0
        while i < len(todo):
            overlap = iou(best, todo[i], offset)
            if method == 'gaussian':
                todo[i][4] *= torch.tensor(-(overlap**2) / sigma).exp().item()
            elif overlap >= threshold:
                todo[i][4] *= 1 - overlap if method == 'linear' else 0
            if todo[i][4] < lowest:
                last = todo.pop()
                if i < len(todo):
                    todo[i] = last
                continue
            i += 1
    return done


@many
@given(
    st.integers(0, 10**6),
    st.integers(0, 25),
    st.sampled_from([0, 1]),
    st.sampled_from(['naive', 'linear', 'gaussian']),
)
def test_soft_nms(run, seed, number, offset, method):
    boxes, scores = draw(seed, number, distinct=False)
    options = dict(sigma=0.5, min_score=0.05, method=method, offset=offset)
    dets, inds = run(
        'nms', 'soft_nms', boxes, scores, 0.3, tolerance=1e-6, **options
    )
    want = plain_soft_nms(
        boxes.double().tolist(),
        scores.double().tolist(),
        0.3,
        *options.values(),
    )
    assert inds.tolist() == [row[5] for row in want]
    torch.testing.assert_close(
        dets, torch.tensor([row[:5] for row in want]).view(-1, 5)
    )


@many
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_nms_match(run, seed, number):
    dets = torch.cat([b.view(number, -1) for b in draw(seed, number)], 1)
    groups = [g.tolist() for g in run('nms', 'nms_match', dets, 0.4)]
    rows = dets.tolist()
    left = sorted(range(number), key=lambda i: -rows[i][4])
    for first, *rest in groups:
        assert first == left[0]
        assert rest == [
            i for i in left[1:] if iou(rows[first], rows[i], 0) >= 0.4
        ]
        left = [i for i in left if i not in (first, *rest)]
    assert not left
