import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmea.engine.hooks import SegPictureHook
from mmea.train import main


def test_picture_beside_the_log(project, run):
    palette = [[0, 0, 0]] * 150
    palette[0], palette[1] = [200, 0, 0], [0, 0, 200]
    with open('tiny.py', 'a') as file:
        file.write(
            "custom_hooks = [dict(type='mmea.SegPictureHook', num_images=2)]\n"
            f'meta = dict(metainfo=dict(palette={palette}))\n'
            'val_dataloader = dict(**data)\n'
            "val_dataloader['dataset'] = {**data['dataset'], **meta}\n"
        )
    run(
        main,
        'tiny.py',
        '--work-dir',
        'work',
        '--cfg-options',
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
    )
    picture = cv2.imread('work/predictions.png')
    assert picture is not None
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert (0, 0, 200) in colours and (200, 0, 0) in colours  # BGR
    (log,) = Path('work').rglob('*.log')
    assert 'predictions.png' in log.read_text()
    # Ground truth of the first image: the column in the middle.
    labels = cv2.imread('data/annotations/validation/0.png', 0)
    middle = picture[: picture.shape[0] // 2, 370:710]
    red = np.all(middle == (0, 0, 200), -1).sum()
    blue = np.all(middle == (200, 0, 0), -1).sum()
    want = (labels == 1).sum() / (labels > 0).sum()
    assert red / (red + blue) == pytest.approx(want, abs=0.03)


def test_without_ground_truth(project):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    pred = PixelData(data=torch.zeros(1, 32, 48, dtype=torch.long))
    path = str(project / 'data/images/validation/0.jpg')
    sample = SegDataSample(metainfo=dict(img_path=path), pred_sem_seg=pred)
    hook = SegPictureHook()
    hook._collect(None, 0, outputs=[sample])
    runner = SimpleNamespace(
        work_dir=str(project), logger=logging.getLogger('test')
    )
    hook._draw(runner, dict(classes=['a'], palette=[[0, 200, 0]]))
    picture = cv2.imread('predictions.png')
    green = np.all(picture == (0, 200, 0), -1)
    assert green[:, 2 * green.shape[1] // 3 :].sum() > 10_000
    assert not green[:200, : 2 * green.shape[1] // 3].any()


def test_each_evaluation_has_pictures_of_its_own():
    hook = SegPictureHook(num_images=2)
    for epoch in range(2):
        hook.before_val_epoch(None)
        for i in range(3):
            sample = BaseDataElement(metainfo=dict(img_path=(epoch, i)))
            hook.after_val_iter(None, i, outputs=[sample])
        assert [s.img_path for s in hook.samples] == [(epoch, 0), (epoch, 1)]
    hook.before_test_epoch(None)
    assert not hook.samples


def test_more_classes_than_a_byte_holds():
    palette = np.arange(900).reshape(300, 3) % 251
    labels = torch.tensor([[[0, 255, 256, 299, 65535, 70000]]])
    sample = BaseDataElement(pred_sem_seg=BaseDataElement(data=labels))
    hook = SegPictureHook(ignore_index=65535)
    meta = dict(palette=palette.tolist(), classes=range(300))
    picture = hook.draw(None, sample, meta)['prediction'][0]
    assert np.array_equal(picture[:4], palette[[0, 255, 256, 299]])
    assert (picture[4:] == 255).all()
    assert len(hook.legend(meta)) == 4


def test_needs_an_image():
    with pytest.raises(ValueError, match='num_images=0'):
        SegPictureHook(num_images=0)
