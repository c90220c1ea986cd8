from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mmea
from mmea.errors import UserError
from mmea.train import main as train


@pytest.fixture
def trained(project, run):
    run(train, 'tiny.py', '--work-dir', 'work', '--cfg-options',
        'train_cfg.max_iters=2')  # fmt: skip
    return mmea.load('tiny.py', 'work/iter_2.pth', device='cpu')


def maps(samples):
    return [sample.pred_sem_seg.data for sample in samples]


def test_as_mmseg_predicts(trained):
    from mmseg.apis import inference_model, init_model

    paths = sorted(map(str, Path('data/images/validation').iterdir()))
    model = init_model(Config.fromfile('tiny.py'), 'work/iter_2.pth', 'cpu')
    want = inference_model(model, paths)
    got = trained.predict(paths)
    assert [s.img_path for s in got] == paths
    for a, b in zip(got, want):
        torch.testing.assert_close(a.seg_logits.data, b.seg_logits.data)
    assert trained.classes[:2] == ('wall', 'building')
    # One gives one; an array is in the order of channels of OpenCV.
    assert torch.equal(*maps([trained.predict(Path(paths[1])), got[1]]))
    image = cv2.imread(paths[1])
    assert torch.equal(*maps([trained.predict(image), got[1]]))


def test_images_of_different_sizes_in_one_batch(trained):
    rng = np.random.default_rng(0)
    sizes = [(32, 48), (40, 33), (32, 48), (65, 48), (40, 33)]
    images = [rng.integers(256, size=(*s, 3)).astype(np.uint8) for s in sizes]
    alone = [trained.predict(image) for image in images]
    together = trained.predict(images, batch_size=4)
    for image, a, b in zip(images, alone, together):
        assert a.pred_sem_seg.data.shape[1:] == image.shape[:2]
        torch.testing.assert_close(a.seg_logits.data, b.seg_logits.data)


def test_bad_input(trained):
    with pytest.raises(UserError, match='image not found: gone.jpg'):
        trained.predict('gone.jpg')
    with pytest.raises(UserError, match=r'must be \(H, W, channels\).*\(4,\)'):
        trained.predict(np.zeros(4, np.uint8))
    for array in (np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UserError, match=r'of uint8, got .*4, 3\) of'):
            trained.predict(array)
    for other in (None, 3, torch.zeros(4, 4, 3), [Image.new('L', (4, 4))]):
        with pytest.raises(UserError, match='must be a path or an array'):
            trained.predict(other)
    with pytest.raises(ValueError, match='batch_size must be an int >= 1'):
        trained.predict([], batch_size=0)
    assert trained.predict([]) == []


def test_what_cannot_be_loaded(trained):
    with pytest.raises(UserError, match='no config file none.py'):
        mmea.load('none.py')
    with pytest.raises(UserError, match='no such checkpoint: gone.pth'):
        mmea.load('tiny.py', 'gone.pth')
    with pytest.raises(UserError, match='no checkpoint in work_dirs/tiny'):
        mmea.load('tiny.py')
    with pytest.raises(UserError, match='no checkpoint in work_dirs/tiny'):
        mmea.load(Config.fromfile('tiny.py'))
    wider = Config.fromfile('tiny.py')
    wider.model.decode_head.attention.num_slots = 5
    with pytest.raises(UserError, match='is of another architecture'):
        mmea.load(wider, 'work/iter_2.pth')
    with pytest.raises(UserError, match='cannot use the device tpu'):
        mmea.load('tiny.py', 'work/iter_2.pth', device='tpu')
    no_pipeline = Config.fromfile('tiny.py')
    no_pipeline.test_dataloader = None
    words = 'has no test_dataloader.dataset.pipeline'
    with pytest.raises(UserError, match=words):
        mmea.load(no_pipeline, 'work/iter_2.pth')
