"""Photographs, folders and videos in; pictures, labels and tables out."""

import csv
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mmea
from mmea.cli.predict import main
from mmea.inference import Predictor
from mmea.train import main as train


@pytest.fixture
def predict(project, run):
    run(train, 'tiny.py', '--work-dir', 'work', '--cfg-options',
        'train_cfg.max_iters=2')  # fmt: skip
    Path('photos/more').mkdir(parents=True)
    for i, name in enumerate(['a.jpg', 'b.jpg', 'more/a.jpg']):
        shutil.copy(f'data/images/training/{i}.jpg', f'photos/{name}')
    checkpoint = 'work/iter_2.pth'
    return partial(run, main, 'tiny.py', checkpoint, '--device', 'cpu')


def test_folder(predict, capsys):
    predict('photos', '--out', 'out', '--batch-size', '2')
    names = ['a', 'b', 'more/a']
    model = mmea.load('tiny.py', 'work/iter_2.pth', device='cpu')
    shares = {}
    for name in names:
        want = model.predict(f'photos/{name}.jpg').pred_sem_seg.data[0]
        label = Image.open(f'out/labels/{name}.png')
        # ADE20K's own label images count from 1.
        assert np.array_equal(np.array(label), want + 1)
        palette = np.array(label.getpalette()).reshape(-1, 3)
        assert palette[1].tolist() == list(model.meta['palette'][0])
        for i, count in zip(*want.unique(return_counts=True)):
            key = f'{name}.jpg', model.classes[i]
            shares[key] = int(count) / want.numel()
        overlay = cv2.imread(f'out/overlays/{name}.jpg')
        assert overlay.shape[:2] == want.shape
    with open('out/summary.csv') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(shares)
    for row in rows:
        want = shares[row['image'], row['class']]
        assert float(row['share']) == pytest.approx(want, abs=1e-6)
    assert 'share of all pixels' in capsys.readouterr().out


def test_broken_files_have_a_line_each(predict, capsys):
    for name in ('x', 'y'):
        Path(f'{name}.jpg').write_bytes(b'no picture')
    with pytest.raises(SystemExit) as end:
        predict('x.jpg', 'photos', 'y.jpg', '--out', 'out')
    assert end.value.args == ('error: 2 of 5 files are left out, see above',)
    lines = capsys.readouterr().err.splitlines()[-2:]
    for name, line in zip('xy', lines):
        assert line.startswith(f'left out: cannot decode the image {name}.jpg')


def test_broken_files_stop_nothing(predict):
    Path('photos/aa.jpg').write_bytes(b'no picture')
    with pytest.raises(SystemExit) as end:
        predict('photos', '--out', 'out')
    assert '1 of 4 files are left out: cannot decode the' in str(end.value)
    assert 'photos/aa.jpg' in str(end.value)
    assert len(list(Path('out/labels').rglob('*.png'))) == 3
    assert not list(Path('out').rglob('*.part*'))


def test_shares_are_of_pixels(predict, capsys):
    """A small image weighs as little as it is, seen or not."""
    cv2.imwrite('photos/small.png', np.zeros((3, 5, 3), np.uint8))
    predict('photos', '--out', 'out')
    table = capsys.readouterr().out
    labels = [
        np.array(Image.open(p)) - 1 for p in Path('out/labels').rglob('*.png')
    ]
    pixels = np.concatenate([x.ravel() for x in labels])
    classes = mmea.load('tiny.py', 'work/iter_2.pth', device='cpu').classes
    ids = np.unique(pixels)
    for i in ids:
        share = f'{(pixels == i).mean():.1%}'
        images = sum((x == i).any() for x in labels)
        assert [classes[i], str(images), share] in [
            [cell.strip() for cell in line.strip('│').split('│')]
            for line in table.splitlines()
        ]
    name = classes[ids[0]]
    predict('photos', '--out', 'twice', '--classes', name, name)
    row = next(x for x in table.splitlines() if f'│ {name} ' in x)
    cells = [c.strip() for c in row.split('│')]
    again = next(
        x for x in capsys.readouterr().out.splitlines() if f'│ {name} ' in x
    )
    assert [c.strip() for c in again.split('│')] == cells


def test_an_odd_size_stops_nothing(predict, monkeypatch):
    """Whatever the net or a resize raises, alone or in a batch."""
    cv2.imwrite('photos/a0.png', np.zeros((7, 5, 3), np.uint8))
    real = Predictor.predict_prepared

    def picky(self, batch):
        if any(d['inputs'].shape[1] == 7 for d in batch):
            raise RuntimeError('too small')
        return real(self, batch)

    monkeypatch.setattr(Predictor, 'predict_prepared', picky)
    with pytest.raises(SystemExit) as end:
        predict('photos', '--out', 'out', '--batch-size', '3')
    assert '1 of 4 files are left out: cannot predict on photos/a0.png: ' in (
        str(end.value)
    )
    assert len(list(Path('out/labels').rglob('*.png'))) == 3
    rows = Path('out/summary.csv').read_text()
    assert 'more/a.jpg' in rows and 'a0' not in rows


def test_a_file_in_the_way(predict):
    Path('out').mkdir()
    Path('out/labels').touch()
    with pytest.raises(SystemExit, match='cannot write to --out out: '):
        predict('photos', '--out', 'out')


def test_classes_and_opacity(predict, run):
    predict('photos/a.jpg', '--out', 'all', '--opacity', '1')
    rows = Path('all/summary.csv').read_text().splitlines()[1:]
    found = [row.split(',')[1] for row in rows]
    out = ('--out', 'none', '--opacity', '1', '--classes')
    other = next(c for c in ('wall', 'sky', 'tree', 'road') if c not in found)
    predict('photos/a.jpg', *out, other)
    assert Path('none/summary.csv').read_text().splitlines() == [
        'image,class,share'
    ]
    photo = cv2.imread('photos/a.jpg')
    Image.fromarray(photo[..., ::-1]).save('saved.jpg', quality=92)
    saved, none, found = (
        cv2.imread(path).astype(int)
        for path in ('saved.jpg', 'none/overlays/a.jpg', 'all/overlays/a.jpg')
    )
    assert np.array_equal(none, saved)
    assert np.abs(found - saved).mean() > 10
    with pytest.raises(SystemExit, match='--classes wal: .* it has wall'):
        predict('photos/a.jpg', *out, 'wal')


def test_video(predict):
    codec = cv2.VideoWriter.fourcc(*'mp4v')
    writer = cv2.VideoWriter('film.mp4', codec, 5, (48, 32))
    for i in range(3):
        writer.write(cv2.imread(f'data/images/training/{i}.jpg'))
    writer.release()
    Path('broken.mp4').write_bytes(b'no film')
    words = '1 of 2 files are left out: cannot decode the video broken.mp4'
    with pytest.raises(SystemExit, match=words):
        predict('film.mp4', 'broken.mp4', '--out', 'out')
    film = cv2.VideoCapture('out/overlays/film.mp4')
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert film.get(cv2.CAP_PROP_FPS) == 5
    assert film.read()[1].shape == (32, 48, 3)
    assert [p.name for p in Path('out').rglob('*.mp4')] == ['film.mp4']


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--opacity', '2'], '--opacity must be from 0 to 1, got 2'),
        (['--score-thr', '-1'], '--score-thr must be from 0 to 1'),
        (['--batch-size', '0'], '--batch-size must be >= 1'),
        (['--device', 'tpu'], 'cannot use the device tpu'),
        (['--out', 'work/iter_2.pth/x'], 'cannot make the folder --out'),
    ],
)
def test_bad_options(predict, args, words):
    with pytest.raises(SystemExit, match=words):
        predict('photos/a.jpg', '--out', 'out', *args)
