import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmea.engine.hooks import DetPictureHook

structures = pytest.importorskip('mmdet.structures')
pytest.importorskip('mmdet.structures.mask')

META = dict(classes=('cat', 'dog'), palette=[(255, 0, 0), (0, 0, 255)])
THIRD = 360  # pixels: a row of the picture is 9 inches at 120 dpi


@pytest.fixture
def sample(tmp_path):
    """A grey image with one cat, found, and a dog that is not there."""
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.full((40, 60, 3), 128, np.uint8))
    cat, dog = [6, 6, 26, 34], [30, 8, 54, 30]
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, (cat, dog)):
        mask[y0:y1, x0:x1] = True
    sample = structures.DetDataSample(metainfo=dict(img_path=path))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([cat]).float(),
        labels=torch.tensor([0]),
        masks=structures.mask.BitmapMasks(
            masks[:1].numpy().astype('u1'), 40, 60
        ),
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([cat, dog]).float(),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.2]),
        masks=masks,
    )
    return sample


def draw(hook, sample, tmp_path):
    hook._collect(None, 0, outputs=[sample])
    runner = SimpleNamespace(
        work_dir=str(tmp_path), logger=logging.getLogger('test')
    )
    hook._draw(runner, META)
    picture = cv2.imread(str(tmp_path / 'predictions.png')).astype(int)
    assert picture.shape[1] == 3 * THIRD
    columns = [picture[:, i * THIRD : (i + 1) * THIRD] for i in range(3)]
    # How many pixels are clearly red, and clearly blue.
    return [
        [
            int((column[..., a] - column[..., b] > 60).sum())
            for a, b in ((2, 0), (0, 2))
        ]
        for column in columns
    ]


def test_boxes_and_masks_beside_the_image(sample, tmp_path):
    image, truth, prediction = draw(DetPictureHook(), sample, tmp_path)
    assert image == [0, 0]
    # The cat covers 20 x 28 of 60 x 40 pixels; its name covers some of it.
    assert 8_000 < truth[0] < 30_000 and truth[1] == 0
    assert prediction[0] == pytest.approx(truth[0], rel=0.2)
    assert prediction[1] == 0  # the dog's score is below the threshold


def test_score_threshold(sample, tmp_path):
    hook = DetPictureHook(score_thr=0.1)
    assert draw(hook, sample, tmp_path)[2][1] > 5_000


def test_nothing_found_and_no_ground_truth(sample, tmp_path):
    sample.pred_instances = sample.pred_instances[:0]
    del sample.gt_instances
    assert draw(DetPictureHook(), sample, tmp_path) == [[0, 0]] * 3


def test_boxes_without_masks(sample, tmp_path):
    del sample.pred_instances.masks
    image, truth, prediction = draw(DetPictureHook(), sample, tmp_path)
    assert 500 < prediction[0] < truth[0] / 2
