"""A GAN through the commands: trained, then used."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmea.cli.generate import main
from mmea.errors import UserError
from mmea.inference import load, load_model
from mmea.train import main as train

CONFIG = """
_base_ = __import__('mmea').config('sagan/eagan_tiny-imagenet.py')
net = dict(img_size=32, num_classes=2, base_channels=2)
model = dict(generator=dict(**net), discriminator=dict(**net))
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='images', img_size=32))
train_cfg = dict(max_iters=2)
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
        train(['tiny.py', '--work-dir', 'work'])
    return root


@pytest.fixture
def project(trained, monkeypatch):
    monkeypatch.chdir(trained)


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


def test_what_takes_images_says_what_to_do(project):
    with pytest.raises(UserError, match='tiny.py is a GAN.* mmea generate'):
        load(*ARGS[:2], device='cpu')
