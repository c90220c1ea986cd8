import math

import pytest
import torch

from mmea.errors import UserError
from mmea.registry import METRICS


def run(truths, found, **kwargs):
    metric = METRICS.build(dict(type='mmea.EndPointError', **kwargs))
    for truth, prediction in zip(truths, found):  # batches of one
        sample = dict(
            img_path='a.png', pred_disparity=torch.tensor(prediction)
        )
        if truth is not None:
            sample['gt_disparity'] = torch.tensor(truth)
        metric.process(None, [sample])
    return metric.evaluate(len(truths))


def test_worked_out_by_hand():
    """The mean over two images, each over its known pixels."""
    truths = [
        [[10.0, 100.0, math.nan], [20.0, math.inf, 30.0]],
        [[4.0, 5.0, 6.0], [math.nan, math.nan, math.nan]],
    ]
    found = [
        # Off by 3.5 (35 %), 4 (4 %), -, 0.5, -, 2.
        [[13.5, 96.0, 0.0], [20.5, 0.0, 28.0]],
        [[4.0, 5.0, math.nan], [1.0, 2.0, 3.0]],
    ]
    got = run(truths[:1], found[:1], thresholds=(1, 1.5, 3))
    assert got == {
        'stereo/EPE': pytest.approx(2.5),
        'stereo/D1': pytest.approx(25),
        'stereo/bad_1': pytest.approx(75),
        'stereo/bad_1.5': pytest.approx(75),
        'stereo/bad_3': pytest.approx(50),
    }
    got = run(truths, found)
    # NaN is off in each way.
    assert math.isnan(got['stereo/EPE'])
    assert got['stereo/D1'] == pytest.approx((25 + 100 / 3) / 2)
    assert got['stereo/bad_1'] == pytest.approx((75 + 100 / 3) / 2)
    got = run(truths[:1], found[:1], max_disp=100)
    assert got['stereo/EPE'] == pytest.approx(2)


def test_names_an_image_without_known_pixel():
    with pytest.raises(UserError, match='a.png has no pixel of a known'):
        run([[[math.nan]]], [[[1.0]]])
    with pytest.raises(UserError, match='below max_disp=5; raise it'):
        run([[[5.0]]], [[[1.0]]], max_disp=5)
    # One of them says nothing, and the other is measured.
    got = run([[[5.0]], [[4.0]]], [[[1.0]], [[2.0]]], max_disp=5)
    assert got['stereo/EPE'] == pytest.approx(2)
    with pytest.raises(UserError, match='a.png has no true disparity'):
        run([None], [[[1.0]]])
    with pytest.raises(ValueError, match='thresholds must be a finite number'):
        METRICS.build(dict(type='mmea.EndPointError', thresholds=(-1,)))
