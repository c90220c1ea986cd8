import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmea.engine.hooks import ClsPictureHook

META = dict(classes=('cat, kitty', 'dog'))
GREEN, RED = (0, 128, 0), (0, 0, 255)  # BGR


@pytest.fixture
def samples(tmp_path):
    """Grey images: a cat that is found, and one that is taken for a dog."""
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.full((40, 40, 3), 128, np.uint8))
    return [
        BaseDataElement(
            metainfo=dict(img_path=path),
            gt_label=torch.tensor([0]),
            pred_label=torch.tensor([label]),
            pred_score=torch.tensor([[0.75, 0.25], [0.0, 1.0]][label]),
        )
        for label in (0, 1)
    ]


def texts(hook, meta=META):
    figure = hook.make_figure(meta)
    return [[t.get_text() for t in ax.texts] for ax in figure.axes]


def draw(hook, samples, tmp_path):
    hook._collect(None, 0, outputs=samples)
    runner = SimpleNamespace(
        work_dir=str(tmp_path), logger=logging.getLogger('test')
    )
    hook._draw(runner, META)
    picture = cv2.imread(str(tmp_path / 'predictions.png'))
    # How many pixels are green and red in each of four columns.
    return [
        [int((column == colour).all(-1).sum()) for colour in (GREEN, RED)]
        for column in np.array_split(picture, 4, axis=1)
    ]


def test_names_below_the_images(samples, tmp_path):
    hook = ClsPictureHook()
    right, wrong, *rest = draw(hook, samples, tmp_path)
    assert right[0] > 20 and right[1] == 0
    assert wrong[0] == 0 and wrong[1] > 20
    assert rest == [[0, 0], [0, 0]]
    assert texts(hook) == [['cat', 'cat 75%'], ['cat', 'dog 100%'], [], []]


def test_without_ground_truth_or_names(samples, tmp_path):
    hook = ClsPictureHook(num_images=1)
    del samples[0].gt_label
    assert draw(hook, samples, tmp_path) == [[0, 0]] * 4
    assert texts(hook)[0] == ['cat 75%']
    assert texts(hook, {})[0] == ['0 75%']


def test_number_of_images(samples):
    hook = ClsPictureHook(num_images=5)
    for _ in range(4):
        hook._collect(None, 0, outputs=samples)
    drawn = texts(hook)
    assert len(drawn) == 8 and sum(map(bool, drawn)) == 5
    with pytest.raises(ValueError, match='num_images=0'):
        ClsPictureHook(num_images=0)
