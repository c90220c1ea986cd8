"""Photographs or a data set in; pages and tables out."""

import csv
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmea
from mmea.cli.visualize import main
from mmea.train import main as train

LAYER = 'decode_head.attention'


@pytest.fixture
def visualize(project, run):
    run(train, 'tiny.py', '--work-dir', 'work_dirs/tiny', '--cfg-options',
        'train_cfg.max_iters=2')  # fmt: skip
    shutil.copy('data/images/training/0.jpg', 'a.jpg')
    return partial(run, main, 'tiny.py')


def read(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_photographs_and_data(visualize, capsys):
    Path('b.jpg').write_bytes(b'no picture')
    with pytest.raises(SystemExit) as end:
        visualize('a.jpg', 'b.jpg', '--out', 'out', '--slots', '3',
                  '--device', 'cpu')  # fmt: skip
    assert '1 of 2 files are left out: cannot decode' in str(end.value)
    assert 'Taking the best checkpoint' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='1 of 1 files are left out'):
        visualize('b.jpg', '--out', 'nothing', '--device', 'cpu')
    assert 'Results' not in capsys.readouterr().out
    assert not list(Path('nothing').iterdir())
    page = np.array(Image.open(f'out/a/{LAYER}.png').convert('RGB'))
    assert page.shape[1] == 1200
    assert page.std() > 20  # there is something on it
    # The table, from the layer itself.
    rows = read('out/slots.csv')
    model = mmea.load('tiny.py', device='cpu')
    ((maps,),) = mmea.attention_maps(
        model.model, 'a.jpg', forward=model.predict
    ).values()
    assert [row['slot'] for row in rows] == [str(i) for i in range(64)]
    alike = maps.key_similarity - 3 * torch.eye(64)
    for i, row in enumerate(rows):
        assert (row['image'], row['layer']) == ('a.jpg', LAYER)
        assert float(row['share']) == pytest.approx(
            float(maps.shares[0, i]), abs=2e-6
        )
        assert int(row['nearest']) == int(alike[i].argmax())
        assert float(row['similarity']) == pytest.approx(
            float(alike[i].max()), abs=1e-4
        )
        assert row['dead'] == str(int(maps.dead()[0, i]))

    visualize('--data', 'val', '--limit', '2', '--out', 'data_out',
              '--device', 'cpu')  # fmt: skip
    assert 'bits' in capsys.readouterr().out
    rows = read(f'data_out/{LAYER}.csv')
    # The images have two classes; 0 is ignored.
    assert list(rows[0]) == [
        *('slot', 'share', 'dead', 'class'), *('wall', 'building'),
    ]  # fmt: skip
    assert sum(float(row['share']) for row in rows) == pytest.approx(1, 1e-4)
    for row in rows:
        best = 'wall' if float(row['wall']) > 1 else 'building'
        assert row['class'] == best
    assert Image.open(f'data_out/{LAYER}.png').width > 500


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['a.jpg', '--layers', 'attention'], 'no such attention layer; there '
         'is decode_head.attention'),
        (['a.jpg', '--pixel', '48', '3'], 'the net sees x from 0 to 47'),
    ],
)  # fmt: skip
def test_what_is_not_there(visualize, args, words):
    with pytest.raises(SystemExit, match=words):
        visualize(*args, '--out', 'out', '--device', 'cpu')


def test_arguments(run):
    words = 'error: name photographs, or a data set by --data val'
    for inputs in ([], ['a.jpg', '--data', 'val']):
        with pytest.raises(SystemExit, match=words):
            run(main, 'x.py', *inputs, '--out', 'out')
    with pytest.raises(SystemExit, match='--pixel must be >= 0, got -1 3'):
        run(main, 'x.py', 'a.jpg', '--out', 'out', '--pixel', '-1', '3')
    with pytest.raises(SystemExit, match='--slots must be >= 1, got 0'):
        run(main, 'x.py', 'a.jpg', '--out', 'out', '--slots', '0')
