"""The stack's own ways to predict find in our configs what they look for."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope, init_default_scope

import mmea

from .harness import build_model, cases, leaves, load, with_demo

SEG, DET, CLS = map(leaves, ('mmseg', 'mmdet', 'mmpretrain'))


def metainfo(cfg):
    """Classes and palette of a data set that need not be there."""
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        cls = registry.get(dataset.type)
    return cls._load_metainfo(dataset.get('metainfo'))


def loaders(cfg):
    """Names at the top of the pipeline; all pipelines must be the same."""
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    names = [step['type'] for step in cfg.test_pipeline]
    return names[0], names.count('LoadAnnotations')


@cases(SEG, with_demo(SEG))
def test_segmentation(args):
    apis = pytest.importorskip('mmseg.apis')
    init_default_scope('mmseg')
    cfg = load(*args)
    assert loaders(cfg) == ('LoadImageFromFile', 1)
    found = apis.MMSegInferencer._init_pipeline(
        object.__new__(apis.MMSegInferencer), cfg
    )
    assert type(found.transforms[0]).__name__ == 'InferencerLoader'
    assert 'seg_map_path' not in found(np.zeros((40, 50, 3), np.uint8))
    meta = metainfo(cfg)
    number = cfg.model.decode_head.num_classes
    assert len(meta['classes']) == len(meta['palette']) == number


@cases(DET, with_demo(DET))
def test_detection(args):
    apis = pytest.importorskip('mmdet.apis')
    init_default_scope('mmdet')
    cfg = load(*args)
    assert loaders(cfg) == ('LoadImageFromFile', 1)
    found = apis.DetInferencer._init_pipeline(
        object.__new__(apis.DetInferencer), cfg
    )
    assert type(found.transforms[0]).__name__ == 'InferencerLoader'
    packed = found(np.zeros((40, 50, 3), np.uint8))
    assert packed['data_samples'].ori_shape == (40, 50)
    meta = metainfo(cfg)
    assert len(meta['palette']) >= len(meta['classes'])


@cases(CLS, with_demo(CLS))
def test_classification(args):
    cfg = load(*args)
    assert loaders(cfg) == ('LoadImageFromFile', 0)


@pytest.fixture
def saved(tmp_path):
    """A config's files: itself, as a project inherits it, and weights."""

    def save(name, *demo):
        cfg = load(name, *demo)
        init_default_scope(cfg.default_scope)
        test_cfg = cfg.model.test_cfg  # of a detector: keep all it finds
        test_cfg.get('rcnn', test_cfg).score_thr = 0.0
        model = build_model(cfg)
        meta = metainfo(cfg)
        weights, plain = str(tmp_path / 'a.pth'), tmp_path / 'plain.py'
        torch.save(
            dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)),
            weights,
        )
        cfg.dump(plain)
        child = tmp_path / 'child.py'
        child.write_text(f"_base_ = {str(plain)!r}\nwork_dir = 'mine'\n")
        picture = str(tmp_path / 'a.png')
        rng = np.random.default_rng(0)
        cv2.imwrite(picture, rng.integers(0, 255, (64, 96, 3), np.uint8))
        DefaultScope._instance_dict.clear()
        return [str(plain), str(child)], weights, picture, meta

    return save


@pytest.mark.parametrize(
    ('name', 'demo'),
    [
        ('ea_fpn_ade20k.py', ['--demo']),
        ('camvid/ea_fpn_mobilenet-v2_1xb4_camvid-240x320.py', []),
    ],
)
def test_segments_a_picture(saved, name, demo):
    apis = pytest.importorskip('mmseg.apis')
    files, weights, picture, meta = saved(name, *demo)
    maps = []
    for file, image in zip(files, (picture, cv2.imread(picture))):
        model = apis.init_model(file, weights, device='cpu')
        assert model.dataset_meta['classes'] == meta['classes']
        assert model.dataset_meta['palette'] == meta['palette']
        maps.append(apis.inference_model(model, image).pred_sem_seg.data)
    inferencer = apis.MMSegInferencer(files[1], weights, device='cpu')
    out = inferencer(picture, return_datasamples=True, return_vis=True)
    sample = out if hasattr(out, 'pred_sem_seg') else out['predictions']
    maps.append(sample.pred_sem_seg.data)
    shown = inferencer.visualizer.dataset_meta
    assert shown['classes'] == meta['classes']
    assert shown['palette'] == meta['palette']
    assert maps[0].shape == (1, 64, 96)
    assert all(torch.equal(x, maps[0]) for x in maps)


@pytest.mark.parametrize(
    ('name', 'demo'),
    [
        ('mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco.py', ['--demo']),
        ('bccd/ea_retinanet_mobilenet-v2_fpn_1xb4_bccd-320x240.py', []),
    ],
)
def test_detects_in_a_picture(saved, name, demo):
    apis = pytest.importorskip('mmdet.apis')
    files, weights, picture, meta = saved(name, *demo)
    scores = []
    for file, image in zip(files, (picture, cv2.imread(picture))):
        model = apis.init_detector(file, weights, device='cpu')
        assert model.dataset_meta['classes'] == meta['classes']
        assert model.dataset_meta['palette'] == meta['palette']
        found = apis.inference_detector(model, image).pred_instances
        scores.append(found.scores.tolist())
    inferencer = apis.DetInferencer(files[1], weights, device='cpu')
    assert inferencer.visualizer.dataset_meta['classes'] == meta['classes']
    assert inferencer.visualizer.dataset_meta['palette'] == meta['palette']
    (found,) = inferencer(picture)['predictions']
    scores.append(found['scores'])
    assert scores[0]
    for other in scores[1:]:
        assert other == pytest.approx(scores[0])


def test_a_config_that_inherits(tmp_path):
    """By its path, as the documentation shows it."""
    apis = pytest.importorskip('mmseg.apis')
    (tmp_path / 'mine.py').write_text(
        "_base_ = __import__('mmea').config('ea_fpn_ade20k.py')\n"
        "data = dict(dataset=dict(metainfo=dict(classes=('wall', 'sky'))))\n"
        'train_dataloader = val_dataloader = test_dataloader = data\n'
    )
    init_default_scope('mmseg')
    cfg = Config.fromfile(tmp_path / 'mine.py')
    found = apis.MMSegInferencer._init_pipeline(
        object.__new__(apis.MMSegInferencer), cfg
    )
    names = [type(step).__name__ for step in found.transforms]
    assert names == ['InferencerLoader', 'Resize', 'PackSegInputs']
    assert metainfo(cfg)['classes'] == ('wall', 'sky')
    assert mmea.config('ea_fpn_ade20k.py') in cfg.text
