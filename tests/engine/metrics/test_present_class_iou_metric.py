import pytest
import torch

pytest.importorskip('mmseg')


def evaluate(pred, label, classes=('a', 'b', 'c', 'd')):
    from mmea.engine.metrics import PresentClassIoUMetric

    metric = PresentClassIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=classes)
    for p, la in zip(pred, label):
        metric.process(
            {},
            [
                dict(
                    pred_sem_seg=dict(data=torch.tensor([p])),
                    gt_sem_seg=dict(data=torch.tensor([la])),
                )
            ],
        )
    result = metric.compute_metrics(metric.results)
    assert metric.dataset_meta['classes'] == classes
    return result


def test_mean_over_the_classes_of_the_ground_truth():
    # b and d occur; c is a false alarm: it costs, but has no row of its own.
    pred = [[1, 1, 2, 3], [3, 3, 3, 1]]
    label = [[1, 1, 1, 3], [3, 3, 1, 255]]
    got = evaluate(pred, label)
    # b: 2 hits of 4 in its union; d: 3 of 4. All: 5 of 7 pixels.
    assert got['mIoU'] == pytest.approx(100 * (2 / 4 + 3 / 4) / 2, abs=0.01)
    assert got['mAcc'] == pytest.approx(100 * (2 / 4 + 3 / 3) / 2, abs=0.01)
    assert got['aAcc'] == pytest.approx(100 * 5 / 7, abs=0.01)


def test_no_ground_truth_at_all():
    from mmea.errors import UserError

    with pytest.raises(UserError, match='nothing to evaluate'):
        evaluate([[0, 1]], [[255, 255]])
