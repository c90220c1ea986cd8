"""The same tools, neck and plugin on a config of mmdet."""

import json
import pickle
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmea import test, train
from mmea.engine.checkpoint import load_checkpoint

pytest.importorskip('mmdet.models')

CONFIG = """
default_scope = 'mmdet'
attention = dict(type='mmea.ExternalAttention2d', num_slots=8)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32,
                           mean=[127.] * 3, std=[64.] * 3),
    backbone=dict(type='ResNet', depth=50, base_channels=4, stem_channels=4,
                  frozen_stages=1, norm_eval=True, init_cfg=None,
                  plugins=[dict(cfg=attention, position='after_conv3',
                                stages=(False, False, True, True))]),
    neck=[dict(type='FPN', in_channels=[16, 32, 64, 128], out_channels=8,
               start_level=1, add_extra_convs='on_output', num_outs=5),
          dict(type='mmea.EANeck', in_channels=[8] * 5, levels=[0, 1, 2],
               attention=attention)],
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8,
        stacked_convs=1, anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
            ratios=[0.5, 1., 2.], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5,
                                 neg_iou_thr=0.4, min_pos_iou=0,
                                 ignore_iof_thr=-1),
                   sampler=dict(type='PseudoSampler'), allowed_border=-1,
                   pos_weight=-1),
    test_cfg=dict(nms_pre=50, score_thr=0.0, max_per_img=5,
                  nms=dict(type='nms', iou_threshold=0.5)))
dataset = dict(
    type='CocoDataset', data_root='data', ann_file='boxes.json',
    data_prefix=dict(img='images'),
    metainfo=dict(classes=('dark', 'bright')), pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape'))])
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='InfiniteSampler', shuffle=False))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dict(test_mode=True, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader['dataset']['pipeline'] = [
    dataset['pipeline'][0], dict(type='PackDetInputs', meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
val_dataloader['dataset']['pipeline'].insert(
    1, dict(type='Resize', scale=(64, 64)))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file='data/boxes.json')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper',
                     optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
    logger=dict(type='LoggerHook', interval=1),
    visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', name='visualizer')
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


@pytest.fixture
def detection(tmp_path, monkeypatch, run):
    rng = np.random.default_rng(0)
    (tmp_path / 'data/images').mkdir(parents=True)
    images, annotations = [], []
    for i in range(4):
        image = rng.integers(60, 190, (64, 64, 3), np.uint8)
        x, y, w, h = (int(v) for v in (*rng.integers(2, 20, 2), 30, 26))
        label = i % 2
        image[y : y + h, x : x + w] = 255 * label
        cv2.imwrite(str(tmp_path / f'data/images/{i}.png'), image)
        images.append(dict(id=i, file_name=f'{i}.png', height=64, width=64))
        annotations.append(
            dict(
                id=i + 1,
                image_id=i,
                category_id=label + 1,
                iscrowd=0,
                bbox=[x, y, w, h],
                area=w * h,
                segmentation=[],
            )
        )
    categories = [dict(id=1, name='dark'), dict(id=2, name='bright')]
    (tmp_path / 'data/boxes.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )
    (tmp_path / 'boxes.py').write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return partial(run, train.main, 'boxes.py', '--work-dir', 'work')


def test_train_resume_and_test(detection, run):
    detection('--cfg-options', 'train_cfg.max_iters=1')
    first = load_checkpoint('work/iter_1.pth')['state_dict']
    detection('--resume')
    last = load_checkpoint('work/iter_3.pth')['state_dict']
    # The plugin in a backbone with norm_eval, and the neck, are trained.
    for name in (
        'backbone.layer4.0.external_attention2d.out_proj.weight',
        'neck.1.attentions.2.out_proj.weight',
    ):
        assert (first[name] - last[name]).abs().max() > 0, name
    run(
        test.main,
        'boxes.py',
        'work/iter_3.pth',
        '--work-dir',
        'test',
        '--out',
        'out/boxes.pkl',
        '--show-dir',
        'show',
    )
    with open('out/boxes.pkl', 'rb') as file:
        results = pickle.load(file)
    assert [r['img_id'] for r in results] == [0, 1, 2, 3]
    assert len(list(Path('show').rglob('*.png'))) == 4


def test_swapped_plugin(detection, run):
    """Train by --swap-attention; both forms of the config open again."""
    from mmdet.apis import inference_detector, init_detector

    # Another plugin, on one stage, for the swap to find.
    Path('boxes.py').write_text(
        CONFIG.replace(
            'plugins=[dict(cfg=attention,',
            "plugins=[dict(cfg=dict(type='NonLocal2d'),",
        )
    )
    swap = ('--swap-attention', 'mmea.ExternalAttention2d')
    name = 'backbone.layer4.0.nonlocal_block.out_proj.weight'
    detection(*swap)
    first, last = (
        load_checkpoint(f'work/iter_{i}.pth')['state_dict'][name]
        for i in (1, 3)
    )
    assert (first - last).abs().max() > 0
    run(test.main, 'work/boxes.py', 'work/iter_3.pth', '--work-dir', 'test')
    Path('nested.py').write_text(
        "_base_ = './boxes.py'\n"
        "model = dict(_delete_=True, type='mmea.SwapAttention',\n"
        '             model={{_base_.model}},\n'
        "             rules=[dict(source='NonLocal2d', target=dict(\n"
        "                 type='mmea.ExternalAttention2d'))])\n"
    )
    image = cv2.imread('data/images/0.png')
    results = []
    for config, options in [('work/boxes.py', None), ('nested.py', {})]:
        model = init_detector(
            config, 'work/iter_3.pth', device='cpu', cfg_options=options
        )
        torch.testing.assert_close(model.state_dict()[name], last)
        results.append(inference_detector(model, image).pred_instances.bboxes)
    torch.testing.assert_close(*results)


def test_missing_annotations(detection):
    with pytest.raises(SystemExit, match='annotation file data/no.json'):
        detection('--cfg-options', 'train_dataloader.dataset.ann_file=no.json')


def test_out_must_be_a_pickle(detection, run):
    Path('x.pth').touch()
    with pytest.raises(SystemExit, match='--out must end in .pkl'):
        run(test.main, 'boxes.py', 'x.pth', '--out', 'folder')
