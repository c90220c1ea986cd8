"""A GAN through the commands: trained, then used."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from torch import nn

from mmea.cli.export import main as export
from mmea.cli.generate import main
from mmea.cli.predict import main as predict
from mmea.cli.publish import main as publish
from mmea.cli.report import main as report
from mmea.cli.visualize import main as visualize
from mmea.inference import load_model
from mmea.test import main as evaluate
from mmea.train import main as train

CONFIG = """
_base_ = __import__('mmea').config('sagan/eagan_tiny-imagenet.py')
net = dict(img_size=32, num_classes=2, base_channels=2)
model = dict(generator=dict(**net), discriminator=dict(**net))
data = dict(data_root='images', img_size=32)
loader = dict(batch_size=4, num_workers=0, persistent_workers=False)
train_dataloader = dict(**loader, dataset=data)
val_dataloader = dict(**loader, dataset=dict(**data, per_class=3))
test_dataloader = val_dataloader
val_evaluator = dict(extractor=dict(dataset=data, max_iters=3, batch_size=4))
test_evaluator = val_evaluator
train_cfg = dict(max_iters=2, val_interval=2)
custom_hooks = [dict(type='mmea.GANSampleHook', num_images=2, num_steps=0)]
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work dir of two iterations, on images of two classes."""
    root = tmp_path_factory.mktemp('gan')
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        (root / 'images' / name).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(0, 256, (32, 32, 3), np.uint8)
            cv2.imwrite(str(root / f'images/{name}/{i}.png'), image)
    (root / 'tiny.py').write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            train(['tiny.py', '--work-dir', 'work'])
    return SimpleNamespace(root=root, said=said.getvalue())


@pytest.fixture
def project(trained, monkeypatch):
    monkeypatch.chdir(trained.root)


ARGS = ['tiny.py', 'work/iter_2.pth', '--device', 'cpu']


def test_generates(project, capsys):
    main([*ARGS, '--out', 'made', '--number', '3', '--classes', 'dog'])
    assert 'made/grid.png' in capsys.readouterr().out
    assert {p.name for p in Path('made').iterdir()} == {
        'dog', 'grid.png', 'walk.png'
    }  # fmt: skip
    model, _, meta = load_model(*ARGS[:2], device='cpu')
    assert meta['classes'] == ('cat', 'dog')
    first = Path('made/dog/0000.png').read_bytes()
    for seed, same in (('0', True), ('1', False)):
        out = ['--out', 'more', '--classes', '1', '--seed', seed]
        main([*ARGS, *out])
        got = Path('more/dog/0000.png').read_bytes()
        assert (got == first) == same
    assert len(list(Path('more/dog').iterdir())) == 10
    shutil.rmtree('made')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--number', '0'], '--number must be >= 1, got 0'),
        (['--steps', '1'], '--steps must be >= 2, got 1'),
        (['--classes', 'dot'], 'no such class; it has dog'),
        (['--classes', '2'], 'no such class; it has cat, dog'),
    ],
)
def test_bad_arguments(project, capsys, args, words):
    with pytest.raises(SystemExit) as end:
        main([*ARGS, '--out', 'made', *args])
    assert words in str(end.value)
    assert not Path('made').exists()


DISTANCE = 'gan/frechet_distance_trained_here'


def distances(folder):
    """Those that a run has logged."""
    lines = [
        json.loads(line)
        for file in Path(folder).rglob('*.json')
        for line in file.read_text().splitlines()
    ]
    return {line[DISTANCE] for line in lines if DISTANCE in line}


def test_a_test_repeats_the_validation(project):
    (validated,) = distances('work')
    evaluate(['tiny.py', 'work/iter_2.pth', '--work-dir', 'tested'])
    (tested,) = distances('tested')
    assert tested == pytest.approx(validated, rel=1e-6)
    best = next(Path('work').glob('best*.pth'))
    assert best.name.endswith('trained_here_iter_2.pth')


def test_training_ends_with_what_comes_next(trained):
    assert 'Next: mmea generate work/tiny.py --out made' in trained.said


def test_report_has_the_curves(project, capsys):
    report(['work', '--out', 'page.html'])
    assert 'no gallery: a GAN predicts nothing' in capsys.readouterr().out
    page = Path('page.html').read_text()
    assert DISTANCE in page and 'loss_generator' in page


IMAGE = 'images/cat/0.png'


@pytest.mark.parametrize(
    ('command', 'args'),
    [
        (predict, [*ARGS[:2], IMAGE, '--out', 'out']),
        (visualize, [*ARGS[:2], IMAGE, '--out', 'out']),
        (export, [*ARGS[:2], '--out', 'out.onnx']),
        (publish, [*ARGS[:2], '--out', 'out']),
        (evaluate, [*ARGS[:2], '--out', 'out']),
    ],
)
def test_others_say_what_to_do(project, command, args):
    with pytest.raises(SystemExit) as end:
        command(args)
    assert re.match(
        r'error: .*tiny\.py is a GAN.*mmea generate', str(end.value)
    )
    assert not list(Path().glob('out*'))


def test_a_detector_makes_no_images(project, monkeypatch):
    net = nn.Linear(2, 2)
    monkeypatch.setattr(
        'mmea.inference.load_model',
        lambda *_, **__: (net, SimpleNamespace(filename='net.py'), {}),
    )
    with pytest.raises(SystemExit) as end:
        main([*ARGS, '--out', 'made'])
    assert 'net.py is of type Linear' in str(end.value)
