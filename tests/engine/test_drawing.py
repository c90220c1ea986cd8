import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmea.engine.drawing import draw_instances

META = dict(classes=['cell', 'plate'], palette=[(200, 0, 0), (0, 0, 250)])
GREY = np.full((101, 151, 3), 100, np.uint8)
BOXES = torch.tensor([[20.0, 30, 60, 70], [70, 10, 90, 90]])


def instances(**fields):
    return InstanceData(labels=torch.tensor([0, 1]), **fields)


def edge_of(picture, number):
    """Colour in the middle of the left edge of a box."""
    left, top, _, bottom = BOXES[number].int().tolist()
    # A line of one pixel lies between two, and is blended with both.
    part = picture[(top + bottom) // 2, left - 1 : left + 2].astype(int)
    return part[np.abs(part - 100).sum(1).argmax()]


def is_red(colour):
    return colour[0] - colour[2] > 60


def is_blue(colour):
    return colour[2] - colour[0] > 60


def test_boxes_have_the_colour_of_their_class():
    picture = draw_instances(GREY, instances(bboxes=BOXES), META)
    assert picture.shape == GREY.shape
    assert is_red(edge_of(picture, 0))
    assert is_blue(edge_of(picture, 1))
    assert (picture[50, 25:55] == 100).all()
    assert (GREY == 100).all()


def test_scores_below_the_threshold():
    found = instances(bboxes=BOXES, scores=torch.tensor([0.9, 0.3]))
    picture = draw_instances(GREY, found, META, score_thr=0.3)
    assert is_blue(edge_of(picture, 1))  # at least
    picture = draw_instances(GREY, found, META, score_thr=0.31)
    assert is_red(edge_of(picture, 0))
    assert (edge_of(picture, 1) == 100).all()
    same = draw_instances(GREY, found[:1], META)
    assert np.array_equal(picture, same)
    assert draw_instances(GREY, found, META, score_thr=1) is GREY


def test_scores_are_written_in_their_boxes():
    boxes = instances(bboxes=BOXES)
    scored = instances(bboxes=BOXES, scores=torch.tensor([0.9, 0.3]))
    before, after = (draw_instances(GREY, i, META) for i in (boxes, scored))
    y, x, _ = np.nonzero(before != after)
    for left, top, *_ in BOXES.tolist():
        near = (abs(x - left - 8) < 12) & (abs(y - top - 5) < 9)
        assert near.sum() > 30
        x, y = x[~near], y[~near]
    assert not len(x)


def masks():
    found = np.zeros((2, *GREY.shape[:2]), bool)
    found[0, 30:70, 20:60] = found[1, 10:90, 70:90] = True
    return found


def kinds():
    from mmdet.structures.mask import BitmapMasks

    yield masks()
    yield torch.from_numpy(masks())
    yield BitmapMasks(list(masks().astype(np.uint8)), *GREY.shape[:2])


@pytest.mark.parametrize('opacity', [0, 0.5])
def test_masks_are_blended(opacity):
    found = instances(bboxes=BOXES, masks=masks())
    picture = draw_instances(GREY, found, META, opacity=opacity)
    for y, x, i in ((50, 40, 0), (50, 80, 1)):
        want = 100 + opacity * (np.array(META['palette'][i]) - 100)
        np.testing.assert_allclose(picture[y, x], want, atol=1)


def test_masks_of_any_kind_without_boxes():
    want = draw_instances(
        GREY, instances(bboxes=BOXES, masks=masks()), META, opacity=0.4
    )
    for kind in kinds():
        for boxes in (dict(), dict(bboxes=torch.zeros(2, 4))):
            found = instances(masks=kind, **boxes)
            picture = draw_instances(GREY, found, META, opacity=0.4)
            assert np.array_equal(picture, want)


def test_nothing_found():
    none = instances(bboxes=BOXES, masks=masks())[:0]
    assert draw_instances(GREY, none, META) is GREY


@pytest.mark.parametrize('palette', [{}, dict(palette='random')])
def test_without_palette(palette):
    picture = draw_instances(GREY, instances(bboxes=BOXES), palette)
    first, second = (edge_of(picture, i) for i in range(2))
    assert abs(first - second).sum() > 20
