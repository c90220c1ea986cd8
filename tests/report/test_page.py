import base64
import re
import shutil
from html import escape, unescape

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmea.cli.report import main
from mmea.engine.checkpoint import load_checkpoint
from mmea.engine.hooks import SegPictureHook
from mmea.report import gallery, write_report
from mmea.report.run import name_folders, read_run

from .conftest import NAME, loss, write_log


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """The trainings, whose files a test may change, and their data."""
    for name in ('work', 'two', 'data'):
        shutil.copytree(trained / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'work'


def section(text: str, name: str) -> str:
    text = text[text.index(f'<section id="{name}">') :]
    text = text[: text.index('</section>')]
    return unescape(re.sub(r'\s+', ' ', re.sub('<[^>]+>', ' ', text)))


def test_one(work, run, capsys):
    run(main, work, '--num', 2, '--device', 'cpu')
    out = capsys.readouterr().out
    assert 'note' not in out
    assert out.endswith(f'Report: {work / "report.html"}\n')
    text = (work / 'report.html').read_text()
    trained = read_run(work, 'work')
    step, value = trained.best
    assert [row['step'] for row in trained.log.train] == [1, 2, 3, 4]
    assert f'<strong>mIoU {value:.4g} at iteration {step}</strong>' in text
    classes = trained.best_row['classes']['IoU']
    assert list(classes) == ['wall', 'building']
    for name, iou in classes.items():
        number = f'{iou:.2f}' if iou >= 1 else f'{iou:.3f}'
        assert f' {name} {number} ' in section(text, 'metrics')
    # Nothing has the name tiny.py, and tiny.py itself is elsewhere.
    assert 'tiny.py is a config of your own' in section(text, 'config')
    model = load_checkpoint(trained.checkpoint)['state_dict']
    neck = [v for k, v in model.items() if re.match('neck.*(weight|bias)', k)]
    numbers = sum(v.numel() for v in neck)
    assert f' neck {numbers / 1e6:.3f} ' in section(text, 'cost')
    version = trained.environment['PyTorch']
    assert f' PyTorch {version} ' in section(text, 'run')
    # The worst first, of both the image, the truth and the prediction.
    scores = re.findall(r'<b class="run-0">([\d.]+)</b>', text)
    assert len(scores) == 2 and scores == sorted(scores)
    images, attention = text.split('<section id="slots">')
    pictures = re.findall('src="data:image/jpeg;base64,(.+?)"', images)
    image, truth, _, *others = [
        cv2.imdecode(np.frombuffer(base64.b64decode(p), np.uint8), 1)
        for p in pictures
    ]
    assert len(others) == 3 and image.shape == truth.shape == (32, 48, 3)
    layers = re.findall('<summary>(.*), [012].jpg</summary>', attention)
    assert layers == ['decode_head.attention'] * 2
    # What is not labelled is white over the image.
    lighter = truth[:, 42:].astype(int) - image[:, 42:]
    assert abs(lighter - 0.6 * (255 - image[:, 42:])).mean() < 8


def test_two(work, run):
    run(main, 'work', 'two', '--no-gallery', '--base', 'ea_fpn_ade20k')
    text = (work / 'report_with_two.html').read_text()
    assert NAME not in text and escape(NAME) not in text  # quotes as numbers
    assert f' {NAME} – 12.50 – ' in section(text, 'metrics')
    configs = section(text, 'config')
    assert 'A against B Nothing' in configs
    assert 'two against ea_fpn_ade20k' in configs
    assert ' train_cfg.max_iters 160000 4 ' in configs
    assert 'no gallery: it was not wanted' in text


def test_a_run_shorter_than_the_interval_of_its_log(tmp_path):
    val = dict(mIoU=1.0, time=1.0, data_time=0.1, step=20)
    write_log(tmp_path / 'x', '20260101_000000', [loss(8, 1.0), val])
    assert read_run(tmp_path / 'x', 'x').length.startswith('20 iterations')


def test_a_loss_that_is_not_finite(tmp_path):
    rows = [loss(1, 1.0), loss(2, float('nan')), loss(3, float('inf'))]
    write_log(tmp_path / 'x', '20260101_000000', rows)
    (note,) = [
        n for n in read_run(tmp_path / 'x', 'x').notes if 'the loss' in n
    ]
    assert note.endswith('not finite at iteration 2, and at 1 more of the log')


def test_background_is_left_as_it_is():
    """Black over three quarters of a photograph hides it."""
    from mmseg.structures import SegDataSample

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (7, 5, 3)).astype(np.uint8)
    truth = torch.tensor([[0] * 4 + [1]] * 7)
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=truth[None]),
        pred_sem_seg=PixelData(data=truth.flip(1)[None]),
    )
    meta = dict(classes=('Background', 'dog'), palette=[[0, 0, 0], [9, 9, 9]])
    drawn = gallery._draw(image, sample, meta, SegPictureHook())
    for picture, ids in zip(drawn, (truth, truth.flip(1))):
        same = (picture == image).all(2)
        assert np.array_equal(same, ids.numpy() == 0)


def test_names_of_folders(tmp_path):
    a, b = tmp_path / 'none/seed-0/work', tmp_path / 'external/seed-0/work'
    assert name_folders([a]) == ['work']
    assert name_folders([a, b]) == ['none/seed-0/work', 'external/seed-0/work']
    assert name_folders([a, a.parent]) == ['work', 'seed-0']
    assert name_folders([a, a])[0].endswith('none/seed-0/work')


def test_data_gone(work, run, capsys):
    shutil.rmtree('data')
    run(main, 'work', '--device', 'cpu')
    (note,) = re.findall('note: (.*)', capsys.readouterr().out)
    assert note.startswith('no gallery: ') and 'data' in note
    text = (work / 'report.html').read_text()
    assert escape(note[:40]) in text
    assert 'one image of 32 x 48' in section(text, 'cost')


def test_log_alone(tmp_path, run, capsys):
    write_log(tmp_path, '1', [loss(1, 2.5), loss(2, 1.5)])
    run(main, tmp_path)
    out = capsys.readouterr().out
    assert f'note: {tmp_path} has no config\n' in out
    assert f'note: {tmp_path} has no checkpoint\n' in out
    text = (tmp_path / 'report.html').read_text()
    assert '<strong>not validated</strong>' in text
    for words in ('has no validation', 'has no metrics of classes'):
        assert f'{words}, and nothing was evaluated' in section(
            text, 'metrics'
        )


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nowhere'], 'error: no such work dir: nowhere'),
        (['data'], 'error: data is no work dir of a training'),
        (['work', 'two', 'work'], 'error: one work dir or two'),
        (['work', '--num', '0'], 'error: --num must be positive'),
        (['work', '--out', 'work/iter_4.pth'],
         'error: --out work/iter_4.pth must be a .html file'),
        (['work', '--base', 'nothing'], 'error: no config file nothing'),
        (['work', '--no-gallery', '--out', 'tiny.py/a.html'],
         'error: cannot write the page tiny.py/a.html'),
    ],
)  # fmt: skip
def test_bad_input(work, run, args, message):
    (work.parent / 'tiny.py').write_text('')
    with pytest.raises(SystemExit) as error:
        run(main, *args)
    assert str(error.value).startswith(message)
    assert '\n' not in str(error.value)


def test_damaged_checkpoint(work, run):
    for path in work.glob('*.pth'):
        path.write_bytes(b'PK')
    run(main, 'work')  # half a file is none
    torch.save([1], work / 'best_mIoU_iter_4.pth')
    with pytest.raises(SystemExit, match='error: cannot load the checkpoint'):
        run(main, 'work')


def test_same_page_again(work):
    for name in ('a.html', 'b.html'):
        write_report([work], name, num=1, device='cpu')
    read = [(work.parent / name).read_text() for name in ('a.html', 'b.html')]
    assert read[0] == read[1]
