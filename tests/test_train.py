import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmea.engine.checkpoint import load_checkpoint
from mmea.test import main as evaluate
from mmea.train import main

from .conftest import free_port
from .killer import KILLER

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def train(project, run):
    return partial(run, main, 'tiny.py', '--work-dir', 'work')


def weights(path):
    return load_checkpoint(path, 'cpu')['state_dict']


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=name)


def test_resume_equals_an_uninterrupted_run(train):
    train()
    want = weights('work/iter_4.pth')
    shutil.rmtree('work')
    train('--cfg-options', 'train_cfg.max_iters=2')
    assert not torch.equal(
        weights('work/iter_2.pth')['neck.fpn_convs.0.conv.weight'],
        want['neck.fpn_convs.0.conv.weight'],
    )
    shutil.copytree('work', 'copy')
    train('--resume')
    assert_same_weights(weights('work/iter_4.pth'), want)
    train('--work-dir', 'other', '--resume', 'copy/iter_2.pth')
    assert_same_weights(weights('other/iter_4.pth'), want)


@pytest.mark.slow
def test_ten_kills(train, run_apart):
    """Five before an iteration, five half-way through a checkpoint."""
    Path('killer.py').write_text(KILLER)
    Path('killed.py').write_text(
        "_base_ = './tiny.py'\n"
        "custom_imports = dict(imports=['killer'])\n"
        "custom_hooks = [dict(type='Killer')]\n"
        'train_dataloader = dict(sampler=dict(shuffle=True))\n'
        'train_cfg = dict(max_iters=24)\n'
    )

    def start(folder, *options):
        args = 'killed.py', '--work-dir', folder, '--resume', '--cfg-options'
        return run_apart(main, *args, 'randomness.seed=0', *options)

    for saved in range(4, 24, 4):
        options = f'custom_hooks.0.iteration={saved + 1}'
        assert start('work', options) == [-signal.SIGKILL]
        file = f'iter_{saved + 2}.pth'
        options = f'custom_hooks.0.saving={file}'
        assert start('work', options) == [-signal.SIGKILL]
        assert Path('work', file).exists()
    assert start('work') == start('straight') == [0]
    got, want = weights('work/iter_24.pth'), weights('straight/iter_24.pth')
    assert got.keys() == want.keys()
    for name in got:
        assert torch.equal(got[name], want[name]), name


def test_resume_into_another_net_is_refused(train):
    train('--cfg-options', 'train_cfg.max_iters=1')
    wider = 'model.decode_head.attention.num_slots=5'
    words = 'is of another architecture: .* differ in shape .*key_memory'
    with pytest.raises(SystemExit, match=words):
        train('--resume', '--cfg-options', wider)
    # To go on from its weights alone is fine-tuning.
    options = ('train_cfg.max_iters=1', 'load_from=work/iter_1.pth')
    train('--work-dir', 'tuned', '--cfg-options', wider, *options)


def test_resume_without_a_checkpoint_says_so(train, capsys):
    train('--resume', 'auto', '--cfg-options', 'train_cfg.max_iters=1')
    assert 'No checkpoint in work' in capsys.readouterr().out


def test_cfg_options_reach_the_attention(train):
    train(
        '--cfg-options',
        'model.decode_head.attention.num_slots=32',
        'train_cfg.max_iters=2',
    )
    state = weights('work/iter_2.pth')
    assert state['decode_head.attention.key_memory'].shape == (32, 8)


def test_amp_on_a_cpu(train):
    if torch.cuda.is_available():
        pytest.skip('tests the path without a GPU')
    train('--amp', '--cfg-options', 'train_cfg.max_iters=2')
    cfg = Config.fromfile('work/tiny.py')
    assert cfg.optim_wrapper.type == 'mmea.CPUAmpOptimWrapper'
    amp = weights('work/iter_2.pth')
    shutil.rmtree('work')
    train('--cfg-options', 'train_cfg.max_iters=2')
    plain = weights('work/iter_2.pth')
    name = 'neck.fpn_convs.0.conv.weight'
    assert not torch.equal(amp[name], plain[name])
    torch.testing.assert_close(amp[name], plain[name], rtol=0.05, atol=0.01)


def test_amp_refuses_another_wrapper(train, capsys):
    with pytest.raises(SystemExit, match='optim_wrapper.type.*it is Zero'):
        train('--amp', '--cfg-options', 'optim_wrapper.type=Zero')


@pytest.mark.parametrize('bands', [4, 13])
def test_tiff_of_many_bands(project, run, bands):
    """Where the last band alone tells the classes apart."""
    tifffile = pytest.importorskip('tifffile')
    for path in Path('data/images').rglob('*.jpg'):
        image = np.full((32, 48, bands), 7, np.uint16)
        image[..., -1] = cv2.imread(str(path))[..., 0]
        tifffile.imwrite(path.with_suffix('.tif'), image)
    Path('bands.py').write_text(
        f"""
_base_ = './tiny.py'
load = dict(type='LoadImageFromFile', color_type='unchanged')
data = dict(dataset=dict(img_suffix='.tif', pipeline=[
    load, dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(48, 32)), dict(type='PackSegInputs')]))
train_dataloader = val_dataloader = test_dataloader = data
model = dict(
    data_preprocessor=dict(mean=[100] * {bands}, std=[50] * {bands}),
    backbone=dict(in_channels={bands}))
train_cfg = dict(max_iters=2, val_interval=2)
"""
    )
    run(main, 'bands.py', '--work-dir', 'work')
    state = weights('work/iter_2.pth')
    stem = [k for k, x in state.items() if x.ndim == 4][0]
    assert stem.startswith('backbone.') and state[stem].shape[1] == bands
    assert last_metrics('work')['mIoU'] >= 0


def test_three_hundred_classes(project, run):
    """Labels of 16 bits; the head's last weights move."""
    for path in Path('data/annotations').rglob('*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), labels.astype(np.uint16) * 299 // 2)
    Path('many.py').write_text(
        """
_base_ = './tiny.py'
data = dict(dataset=dict(
    _delete_=True, type='BaseSegDataset', data_root='data',
    data_prefix=dict(img_path='images/training',
                     seg_map_path='annotations/training'),
    pipeline=_base_.pipeline, ignore_index=65535,
    metainfo=dict(classes=[f'class {i}' for i in range(300)])))
train_dataloader = val_dataloader = test_dataloader = data
model = dict(decode_head=dict(num_classes=300, ignore_index=65535))
val_evaluator = dict(ignore_index=65535)
test_evaluator = val_evaluator
train_cfg = dict(max_iters=2, val_interval=2)
"""
    )
    run(main, 'many.py', '--work-dir', 'work')
    (log,) = Path('work').rglob('*.log')
    rows = [line.split('|')[1].strip() for line in
            log.read_text().splitlines() if line.startswith('|')]  # fmt: skip
    assert {'class 0', 'class 149', 'class 299'} <= set(rows)
    # mmseg writes ids as bytes.
    words = '--out writes label images of 8 bits, and the model has 300'
    with pytest.raises(SystemExit, match=words):
        run(evaluate, 'many.py', '--work-dir', 'work', '--out', 'labels')


def test_mmsegs_own_tool(project):
    """The config brings mmea, and the ops where mmseg needs them."""
    import mmseg

    tool = Path(mmseg.__file__).parent / '.mim/tools/train.py'
    options = ('--cfg-options', 'train_cfg.max_iters=2')
    subprocess.run(
        [sys.executable, tool, 'tiny.py', '--work-dir', 'work', *options],
        check=True,
    )
    assert 'decode_head.attention.key_memory' in weights('work/iter_2.pth')


DEMO = ('ea_fpn_ade20k.py', '--demo', '--cfg-options')


def last_metrics(folder, key='mIoU:') -> dict[str, float]:
    """Of the last evaluation in a work dir."""
    (log,) = Path(folder).rglob('*.log')
    line = [la for la in log.read_text().splitlines() if key in la][-1]
    return {k: float(v) for k, v in re.findall(r'(\w+): ([\d.]+)', line)}


def test_demo(tmp_path, monkeypatch, run):
    """Other sizes by option; the scenes are rendered once."""
    pytest.importorskip('mmseg')
    monkeypatch.chdir(tmp_path)
    sizes = ('demo_scenes.num_train=8', 'demo_scenes.num_val=3')
    short = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    run(main, *DEMO, *sizes, 'demo_scenes.size=(96,112)', *short)
    scenes = sorted(Path('data/demo/ade20k').rglob('*.jpg'))
    assert len(scenes) == 8 + 3
    assert cv2.imread(str(scenes[0])).shape == (96, 112, 3)
    work = Path('work_dirs/ea_fpn_ade20k_demo')
    assert (work / 'predictions.png').is_file()
    (log,) = work.rglob('*.log')
    text = log.read_text()
    assert re.search(r'\|\s+Class\s+\|\s+IoU', text)
    assert 'predictions.png' in text
    times = [path.stat().st_mtime_ns for path in scenes]
    run(main, *DEMO, *sizes, 'demo_scenes.size=(96,112)', *short)
    assert [path.stat().st_mtime_ns for path in scenes] == times


@pytest.mark.slow
def test_demo_reaches_its_target(tmp_path, monkeypatch, run):
    pytest.importorskip('mmseg')
    monkeypatch.chdir(tmp_path)
    run(main, *DEMO[:2])
    assert last_metrics('work_dirs')['mIoU'] >= 70


DET_DEMO = ('mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco.py', '--demo')


def test_detection_demo(tmp_path, monkeypatch, run):
    pytest.importorskip('mmdet.models')
    monkeypatch.chdir(tmp_path)
    options = (
        '--cfg-options',
        'demo_scenes.num_train=8',
        'demo_scenes.num_val=3',
        'demo_scenes.size=(96,112)',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        # After so few steps all scores are low.
        'model.test_cfg.rcnn.score_thr=0.0',
    )
    run(main, *DET_DEMO, *options)
    scenes = sorted(Path('data/demo/coco').rglob('*.jpg'))
    assert len(scenes) == 8 + 3
    assert cv2.imread(str(scenes[0])).shape == (96, 112, 3)
    work = Path('work_dirs/ea_mask-rcnn_r50_fpn_1x_coco_demo')
    assert (work / 'predictions.png').is_file()
    (log,) = work.rglob('*.log')
    text = log.read_text()
    table = [line.split('|') for line in text.splitlines() if '| ' in line]
    names = {row[1].strip() for row in table if len(row) > 3}
    assert {'category', 'car'} < names and 'bicycle' not in names
    assert 'coco/bbox_mAP_50:' in text and 'coco/segm_mAP_50:' in text
    assert 'predictions.png' in text


@pytest.mark.long
@pytest.mark.slow
def test_detection_demo_reaches_its_target(tmp_path, monkeypatch, run):
    pytest.importorskip('mmdet.models')
    monkeypatch.chdir(tmp_path)
    run(main, *DET_DEMO)
    metrics = last_metrics('work_dirs', 'coco/bbox_mAP:')
    assert metrics['bbox_mAP_50'] >= 0.3
    assert metrics['segm_mAP_50'] >= 0.3


HOOK = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class WriteLosses(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        with open(f'losses_{runner.world_size}_{runner.rank}', 'a') as file:
            print(outputs['loss'].item(), file=file)
"""


def test_two_processes_equal_one(project):
    """gloo on a CPU, GroupNorm, fixed order, the same total batch."""
    (project / 'losses.py').write_text(HOOK)
    (project / 'ddp.py').write_text(
        "_base_ = './tiny.py'\n"
        "custom_imports = dict(imports=['losses'])\n"
        "custom_hooks = [dict(type='WriteLosses')]\n"
        # A step is small enough not to amplify the rounding of float32.
        'optim_wrapper = dict(optimizer=dict(lr=0.002))\n'
        'train_cfg = dict(max_iters=10)\n'
    )
    env = {**os.environ, 'PYTHON': sys.executable, 'PORT': free_port()}
    args = ['ddp.py', '--work-dir']
    one = [sys.executable, ROOT / 'tools/train.py', *args, 'one']
    subprocess.run(one, check=True, env=env)
    script = ROOT / 'tools/dist_train.sh'
    two = ['bash', script, 'ddp.py', '2', '--work-dir', 'two']
    options = ['--cfg-options', 'train_dataloader.batch_size=2']
    subprocess.run([*two, *options], check=True, env=env)
    single = np.loadtxt('losses_1_0')
    ranks = np.stack([np.loadtxt(f'losses_2_{rank}') for rank in range(2)])
    assert single.shape == (10,)
    assert np.abs(ranks[0] - ranks[1]).max() > 1e-4  # they saw other images
    assert np.abs(ranks.mean(0) - single).max() < 1e-5
    assert_same_weights(weights('one/iter_10.pth'), weights('two/iter_10.pth'))
