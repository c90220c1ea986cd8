"""The same tools, neck and plugin on a config of mmdet."""

import contextlib
import io
import json
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmea import test, train
from mmea.engine.checkpoint import load_checkpoint

from .conftest import tool
from .killer import KILLER

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
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
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


def test_what_pycocotools_prints(detection, capsys):
    """It goes to the log, where the console is quiet."""
    options = 'train_cfg.max_iters=2', 'train_cfg.val_interval=1'
    detection('--cfg-options', *options)
    out = capsys.readouterr().out
    (log,) = Path('work').rglob('*.log')
    told = log.read_text()
    for noise in ('DONE (t=', 'Accumulating', 'Average Recall', 'creating '):
        assert noise in told and noise not in out
    assert told.count('Average Precision') == 12
    assert out.count('coco/bbox_mAP_50 ') == 2
    detection('--verbose', '--work-dir', 'all', '--cfg-options', *options)
    assert capsys.readouterr().out.count('Average Precision') == 12


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


def test_predict(detection, run):
    """Boxes as COCO annotations, which pycocotools reads."""
    import mmea
    from mmea.cli.predict import main as predict

    coco = pytest.importorskip('pycocotools.coco')
    detection()
    # Images of other sizes, in one batch.
    cv2.imwrite('data/images/4.png', np.zeros((40, 90, 3), np.uint8))
    args = 'boxes.py', 'work/iter_3.pth', 'data/images', '--out', 'out'
    run(predict, *args, '--score-thr', '0', '--batch-size', '3')
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.COCO('out/predictions.json')
    assert [c['name'] for c in found.loadCats([1, 2])] == ['dark', 'bright']
    model = mmea.load('boxes.py', 'work/iter_3.pth')
    paths = sorted(map(str, Path('data/images').iterdir()))
    total = 0
    for image, path in zip(found.loadImgs(found.getImgIds()), paths):
        want = model.predict(path)
        assert (image['height'], image['width']) == want.ori_shape
        assert image['file_name'] == Path(path).name
        want = want.pred_instances.cpu().numpy()
        own = found.loadAnns(found.getAnnIds(image['id']))
        assert len(own) == len(want)
        total += len(own)
        for a, box, label, score in zip(
            own, want.bboxes, want.labels, want.scores
        ):
            x, y, w, h = a['bbox']
            assert [x, y, x + w, y + h] == pytest.approx(box, abs=0.02)
            assert a['category_id'] == label + 1
            assert a['score'] == pytest.approx(score, abs=1e-4)
    assert total
    rows = Path('out/summary.csv').read_text().splitlines()
    assert len(rows) == 1 + total
    # Above all scores nothing is left, and nothing fails.
    run(predict, *args[:-1], 'none', '--score-thr', '1')
    assert not json.loads(Path('none/predictions.json').read_text())[
        'annotations'
    ]


def test_missing_annotations(detection):
    with pytest.raises(SystemExit, match='annotation file data/no.json'):
        detection('--cfg-options', 'train_dataloader.dataset.ann_file=no.json')


def test_out_must_be_a_pickle(detection, run):
    Path('x.pth').touch()
    with pytest.raises(SystemExit, match='--out must end in .pkl'):
        run(test.main, 'boxes.py', 'x.pth', '--out', 'folder')


def test_number_of_classes(detection):
    with pytest.raises(
        SystemExit,
        match=r'^error: model.bbox_head.num_classes is 3, the data set has 2 '
        r'classes \(train_dataloader.dataset.metainfo.classes\); set '
        r'model.bbox_head.num_classes=2$',
    ):
        detection('--cfg-options', 'model.bbox_head.num_classes=3')


MASK_RCNN = """
_base_ = __import__('mmea').config(
    'nwpu/mask-rcnn_r18-w32_fpn_nwpu-256x256.py')
model = dict(roi_head=dict(bbox_head=dict(num_classes=2),
                           mask_head=dict(num_classes=2)),
             # Few regions, for only the time depends on them.
             train_cfg=dict(rpn_proposal=dict(max_per_img=50),
                            rcnn=dict(sampler=dict(num=32))),
             test_cfg=dict(rpn=dict(max_per_img=50)))
pipeline = [dict(type='mmea.LoadImage'),
            dict(type='Resize', scale=(64, 64)),  # as they are
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=(
                'img_id', 'img_path', 'ori_shape', 'img_shape',
                'scale_factor'))]
data = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='data', ann_file='boxes.json', pipeline=pipeline,
    metainfo=dict(_delete_=True, classes=('dark', 'bright'))))
train_dataloader = data
val_dataloader = data
test_dataloader = data
val_evaluator = dict(ann_file='data/boxes.json')
test_evaluator = val_evaluator
param_scheduler = [dict(type='ConstantLR', factor=1, by_epoch=False)]
train_cfg = dict(max_iters=25, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=25))
"""


def test_mmdets_own_tool(detection):
    """It imports mmdet first; the config brings mmea and the ops."""
    import mmdet

    Path('masks.py').write_text(MASK_RCNN)
    tool = Path(mmdet.__file__).parent / '.mim/tools/train.py'
    options = ('--cfg-options', 'train_cfg.max_iters=1')
    subprocess.run(
        [sys.executable, tool, 'masks.py', '--work-dir', 'work', *options,
         'default_hooks.checkpoint.interval=1'],
        check=True,
    )  # fmt: skip
    state = load_checkpoint('work/iter_1.pth')['state_dict']
    assert state['roi_head.mask_head.conv_logits.bias'].shape == (2,)


def average_precision(predictions, kind):
    """AP and AP50 by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO('data/boxes.json')
        found = COCOeval(truth, truth.loadRes(predictions), kind)
        found.evaluate()
        found.accumulate()
        found.summarize()
    return found.stats[:2]


def test_boxes_masks_and_result_files(detection, run):
    Path('masks.py').write_text(MASK_RCNN)
    run(train.main, 'masks.py', '--work-dir', 'work')
    # By the tool itself.
    args = ('--work-dir', 'work', '--out', 'out/masks.pkl', '--cfg-options')
    prefix = 'test_evaluator.outfile_prefix=out/coco/val'
    run(tool('test.py'), 'masks.py', *args, prefix)
    log = max(Path('work').rglob('*.log'), key=lambda p: p.stat().st_mtime)
    metrics = dict(re.findall(r'coco/(\w+): ([\d.]+)', log.read_text()))
    with open('out/masks.pkl', 'rb') as file:
        samples = pickle.load(file)
    for kind in ('bbox', 'segm'):
        want = [float(metrics[f'{kind}_{name}']) for name in ('mAP', 'mAP_50')]
        assert want[1] > 0.3  # four images, nearly learned
        dumped = f'out/coco/val.{kind}.json'
        assert average_precision(dumped, kind) == pytest.approx(want, abs=1e-3)
        pickled = []
        for sample in samples:
            found = sample['pred_instances']
            for i, (x1, y1, x2, y2) in enumerate(found['bboxes'].tolist()):
                entry = dict(
                    image_id=sample['img_id'],
                    category_id=int(found['labels'][i]) + 1,
                    score=float(found['scores'][i]),
                )
                if kind == 'bbox':
                    entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
                else:
                    entry['segmentation'] = found['masks'][i]
                pickled.append(entry)
        assert average_precision(pickled, kind) == pytest.approx(
            want, abs=1e-3
        )


LOOP = """
_base_ = './boxes.py'
custom_imports = dict(imports=['killer'])
custom_hooks = [dict(type='Killer')]
optim_wrapper = dict(optimizer=dict(lr=0.01, momentum=0.9))
"""
LOOPS = {
    'iter': """
train_dataloader = dict(sampler=dict(shuffle=True))
train_cfg = dict(max_iters=8)
default_hooks = dict(checkpoint=dict(interval=2))
""",
    'epoch': """
train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=4,
                 val_interval=100)
default_hooks = dict(checkpoint=dict(by_epoch=True))
log_processor = dict(by_epoch=True)
""",
}


@pytest.mark.parametrize(
    ('loop', 'saved', 'half', 'last'),
    [('iter', 4, 6, 8), ('epoch', 2, 3, 4)],
)
def test_killed_run_resumes(
    detection, run, run_apart, loop, saved, half, last
):
    """Killed twice, it ends with the weights of a run left in peace."""
    Path('killer.py').write_text(KILLER)
    Path('loop.py').write_text(LOOP + LOOPS[loop])

    def killed(*args):
        codes = run_apart(train.main, 'loop.py', '--work-dir', 'work', *args)
        assert codes == [-signal.SIGKILL]
        name = Path(Path('work/last_checkpoint').read_text()).name
        assert name == f'{loop}_{saved}.pth'

    # The sixth iteration; an epoch has two.
    killed('--cfg-options', 'custom_hooks.0.iteration=5')
    file = f'{loop}_{half}.pth'
    killed('--resume', '--cfg-options', f'custom_hooks.0.saving={file}')
    assert Path('work', file).exists()
    run(train.main, 'loop.py', '--work-dir', 'work', '--resume')
    run(train.main, 'loop.py', '--work-dir', 'straight')
    got, want = (
        load_checkpoint(f'{folder}/{loop}_{last}.pth')['state_dict']
        for folder in ('work', 'straight')
    )
    assert got.keys() == want.keys()
    for key in want:
        torch.testing.assert_close(got[key], want[key], msg=key)
