"""The same commands on a config of mmpretrain."""

import pickle
import re
import sys
from functools import partial
from pathlib import Path

import cv2
import pytest
import torch

from mmea import test, train
from mmea.engine.checkpoint import load_checkpoint

NAME = 'classification/ea_resnet50_8xb32_in1k.py'
WORK = Path('work_dirs/ea_resnet50_8xb32_in1k_demo')
SHORT = (
    '--cfg-options',
    'demo_scenes.num_train=12',
    'demo_scenes.num_val=6',
    'demo_scenes.size=(48,56)',
    'train_dataloader.batch_size=6',
    *(
        f'{split}_dataloader.{option}'
        for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
)


@pytest.fixture
def demo(tmp_path, monkeypatch, run):
    pytest.importorskip('mmpretrain.models')
    monkeypatch.chdir(tmp_path)
    return partial(run, train.main, NAME, '--demo', *SHORT)


def top1(folder=WORK) -> float:
    """Of the last evaluation in a work dir, in per cent."""
    log = max(Path(folder).rglob('*.log'), key=lambda p: p.stat().st_mtime)
    found = re.findall(r'accuracy/top1: ([\d.]+)', log.read_text())
    return float(found[-1])


def test_predict(demo, run):
    import csv

    import mmea
    from mmea.cli.predict import main as predict

    demo('train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    config, (best,) = f'{WORK}/{Path(NAME).name}', WORK.glob('best_*.pth')
    photos = 'data/demo/imagenet/val'
    run(predict, config, str(best), photos, '--out', 'out')
    with open('out/summary.csv') as file:
        rows = list(csv.DictReader(file))
    model = mmea.load(config, best)
    for path in Path(photos).rglob('*.JPEG'):
        scores = model.predict(path).pred_score
        own = [r for r in rows if path.match(r['image'])]
        assert len(own) == 5
        for row, score in zip(own, scores.sort(descending=True)[0]):
            assert float(row['score']) == pytest.approx(float(score), abs=1e-4)
        assert own[0]['class'] == model.classes[int(scores.argmax())]
    # Of some classes, the likeliest of those.
    some = [model.classes[i] for i in scores.argsort()[:2].tolist()]
    run(predict, config, str(best), str(path), '--out', 'two', '--classes',
        *some)  # fmt: skip
    with open('two/summary.csv') as file:
        assert [r['class'] for r in csv.DictReader(file)] == some[::-1]


def test_demo_resume_and_test(demo, run):
    demo('train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    scenes = sorted(Path('data/demo/imagenet').rglob('*.JPEG'))
    assert len(scenes) == 12 + 6
    assert cv2.imread(str(scenes[0])).shape == (48, 56, 3)
    assert (WORK / 'predictions.png').is_file()
    (log,) = WORK.rglob('*.log')
    assert 'predictions.png' in log.read_text() and 0 <= top1() <= 100
    demo('train_cfg.max_epochs=2', 'train_cfg.val_interval=2', '--resume')
    first, last = (
        load_checkpoint(WORK / f'epoch_{i}.pth')['state_dict'] for i in (1, 2)
    )
    for name in ('layer3.attention.out_proj.weight', 'conv1.weight'):
        assert (first[f'backbone.{name}'] != last[f'backbone.{name}']).any()
    want = top1()

    evaluate = partial(run, test.main, NAME, '--demo')
    evaluate('--out', 'out.pkl', '--show-dir', 'show', *SHORT)
    assert top1() == want
    with open('out.pkl', 'rb') as file:
        results = pickle.load(file)
    right = [(r['pred_label'] == r['gt_label']).item() for r in results]
    assert len(right) == 6
    assert 100 * sum(right) / 6 == pytest.approx(want, abs=0.01)
    assert len(list(Path('show').iterdir())) == 6

    # The mean of an image and its mirror image.
    evaluate('--out', 'tta.pkl', '--tta', *SHORT)
    with open('tta.pkl', 'rb') as file:
        mirrored = pickle.load(file)
    for one, two in zip(results, mirrored, strict=True):
        assert one['gt_label'] == two['gt_label']
        assert two['pred_score'].sum().item() == pytest.approx(1, abs=1e-4)
        assert not torch.equal(one['pred_score'], two['pred_score'])


@pytest.mark.long
@pytest.mark.slow
def test_demo_reaches_its_target(demo):
    # Without SHORT's sizes.
    demo.func(*demo.args[:3])
    assert top1() >= 70


def test_wrong_data(demo):
    def fails(*options):
        with pytest.raises(SystemExit) as info:
            demo(*options)
        return str(info.value.code)

    message = fails('model.head.num_classes=7')
    assert message.startswith('error: model.head.num_classes is 7, the data')
    message = fails('val_dataloader.dataset.split=test')
    assert 'the data set folder data/demo/imagenet/test' in message
    path = next(Path('data/demo/imagenet/train').rglob('*.JPEG'))
    path.write_bytes(b'no picture')
    options = (*SHORT[1:], 'train_cfg.max_epochs=1')
    # The same data as if they were a user's own: not rendered anew.
    message = fails('demo_scenes=None', *options)
    assert f"holds 1 files that cannot be decoded: '{path}'" in message
    message = fails('demo_scenes=None', *options, '--no-check')
    assert f'cannot decode the image {path}' in message


def test_out_must_be_a_pickle(demo, run):
    Path('x.pth').touch()
    with pytest.raises(SystemExit, match='--out must end in .pkl for mmpre'):
        run(test.main, NAME, 'x.pth', '--out', 'folder')


def test_without_mmpretrain(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    for name in ('mmpretrain', 'mmpretrain.models'):
        monkeypatch.setitem(sys.modules, name, None)
    Path('x.pth').touch()
    for main, *args in ((train.main,), (test.main, 'x.pth')):
        with pytest.raises(SystemExit) as info:
            run(main, NAME, *args, '--demo', '--work-dir', 'work')
        message = str(info.value.code)
        assert '\n' not in message
        assert message.startswith(
            "error: the config needs mmpretrain (default_scope='mmpretrain'),"
        )
        assert 'install the extra "cls" of mmea as docs/install.md' in message
        assert not Path('work').exists() and not Path('data').exists()
