import copy
import json
import logging

import pytest
import torch
from mmengine.logging import MMLogger

evaluation = pytest.importorskip('mmdet.evaluation')

from mmea.engine.metrics import PresentClassCocoMetric  # noqa: E402

NAMES = ('cat', 'dog', 'cow')


@pytest.fixture
def ann_file(tmp_path):
    """Two images; cats (id 3) and cows (id 9), no dog (id 5)."""
    boxes = {
        1: [(3, [0, 0, 20, 20]), (9, [30, 30, 20, 30])],
        2: [(3, [10, 10, 30, 20])],
    }
    annotations = [
        dict(image_id=image, category_id=kind, bbox=box, area=400, iscrowd=0)
        for image, found in boxes.items()
        for kind, box in found
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    content = dict(
        images=[
            dict(id=i, file_name=f'{i}.jpg', height=64, width=64)
            for i in boxes
        ],
        annotations=annotations,
        categories=[dict(id=i, name=n) for i, n in zip((3, 5, 9), NAMES)],
    )
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(content))
    return str(path)


def predictions():
    """One cat found, one cow called a dog, one cat with a loose box."""
    rows = {
        1: [([0, 0, 20, 20], 0.9, 0), ([30, 30, 50, 60], 0.8, 1)],
        2: [([12, 10, 44, 32], 0.7, 0), ([0, 0, 9, 9], 0.95, 2)],
    }
    return [
        dict(
            img_id=image,
            ori_shape=(64, 64),
            pred_instances=dict(
                bboxes=torch.tensor([row[0] for row in found]).float(),
                scores=torch.tensor([row[1] for row in found]),
                labels=torch.tensor([row[2] for row in found]),
            ),
        )
        for image, found in rows.items()
    ]


def evaluate(metric):
    metric.dataset_meta = dict(classes=NAMES)
    metric.process({}, predictions())
    return metric.evaluate(2)


def test_table_holds_the_present_classes_and_the_mean_is_cocos(
    ann_file, caplog
):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            ours = evaluate(PresentClassCocoMetric(ann_file, classwise=True))
    finally:
        logger.removeHandler(caplog.handler)
    theirs = evaluate(evaluation.CocoMetric(ann_file, classwise=True))
    assert 'coco/dog_precision' not in ours
    del theirs['coco/dog_precision']
    assert ours == theirs
    assert 0 < ours['coco/bbox_mAP_50'] < 1
    table = next(r.getMessage() for r in caplog.records if '| cat' in r.msg)
    assert 'cow' in table and 'dog' not in table


def test_twice_gives_the_same(ann_file):
    metric = PresentClassCocoMetric(ann_file, classwise=True)
    assert copy.deepcopy(evaluate(metric)) == evaluate(metric)
