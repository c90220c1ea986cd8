import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmea.report.measures import measure


def test_mean_iou():
    truth = torch.tensor([[[0, 0, 1], [2, 2, 255]]])
    found = torch.tensor([[[0, 1, 1], [2, 2, 3]]])
    sample = BaseDataElement(
        gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=found)
    )
    assert measure(sample) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    # The pixel that was ignored counts, and its class is missed.
    assert measure(sample, 254) == pytest.approx((1 / 2 + 1 / 2 + 1 + 0) / 4)
    sample.gt_sem_seg.data = torch.full_like(truth, 255)
    assert measure(sample) is None
    del sample.gt_sem_seg
    assert measure(sample) is None


def instances(*rows, scores=None) -> InstanceData:
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float)
    found = InstanceData(
        bboxes=boxes.reshape(-1, 4),
        labels=torch.tensor([row[1] for row in rows], dtype=torch.long),
    )
    if scores is not None:
        found.scores = torch.tensor(scores)
    return found


def test_f1():
    near, far = (0, 0, 10, 10), (50, 50, 60, 60)
    sample = BaseDataElement(
        gt_instances=instances((near, 0), (far, 1)),
        pred_instances=instances(
            (near, 0),
            (near, 0),
            (far, 0),
            (far, 1),
            scores=[0.9, 0.8, 0.7, 0.2],
        ),
    )
    # One pair; found twice, of another class, and not sure enough: no pairs.
    assert measure(sample) == pytest.approx(2 * 1 / (3 + 2))
    nothing = instances(scores=[])
    sample.pred_instances = nothing
    assert measure(sample) == 0
    sample.gt_instances = instances()
    assert measure(sample) == 1


def test_probability():
    sample = BaseDataElement(
        gt_label=torch.tensor([1]), pred_score=torch.tensor([0.2, 0.5, 0.3])
    )
    assert measure(sample) == 0.5
