import pytest
import torch

from mmea.registry import METRICS


def run(metric, samples):
    for sample in samples:  # batches of one
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


def test_accuracy():
    """Three of four are right; of one class all, of the other a half."""
    metric = METRICS.build(dict(type='mmea.PointAccuracyMetric', guess=True))
    samples = [
        dict(gt_label=torch.tensor([a]), pred_label=torch.tensor([b]))
        for a, b in ((0, 0), (0, 0), (0, 0), (3, 3), (3, 1), (0, 0))
    ]
    found = run(metric, samples)
    assert found['accuracy/overall'] == pytest.approx(100 * 5 / 6)
    assert found['accuracy/class'] == pytest.approx(75)
    assert found['accuracy/guess'] == pytest.approx(100 * 4 / 6)


def test_parts():
    metric = METRICS.build(
        dict(type='mmea.PartIoUMetric', per_class=True, guess=True)
    )
    metric.dataset_meta = dict(
        classes=('mug', 'cap', 'bag'), parts=((0, 1), (2, 3, 4), (5,))
    )
    samples = [
        dict(
            gt_label=torch.tensor([label]),
            gt_parts=torch.tensor(truth),
            pred_parts=torch.tensor(found),
        )
        for label, truth, found in (
            (0, [0, 0, 1, 1], [0, 0, 0, 1]),  # 2/3, 1/2
            (0, [0, 0, 0, 0], [0, 0, 0, 0]),  # 1, and 1 has none: 1
            (1, [2, 3, 3, 3], [2, 0, 3, 3]),  # 1, 2/3, and 4 has none: 1
        )
    ]
    first = (2 / 3 + 1 / 2) / 2
    last = (1 + 2 / 3 + 1) / 3
    # All 0: 1/2, 0; 1, 1. All 3: 0, 3/4, 1.
    guess = (0.5 / 2 + 1 + 1.75 / 3) / 3
    found = run(metric, samples)
    assert found == {
        'parts/instance_mIoU': pytest.approx(100 * (first + 1 + last) / 3),
        'parts/guess': pytest.approx(100 * guess),
        'parts/class_mIoU': pytest.approx(100 * ((first + 1) / 2 + last) / 2),
        'parts/mug': pytest.approx(100 * (first + 1) / 2),
        'parts/cap': pytest.approx(100 * last),
    }
