"""PSMNet's configs: a demo from start to test, and its picture."""

import json
import re

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmcv')

from mmea.cli import predict, test
from mmea.train import main

from .harness import leaves, load

NAMES = [name for name in leaves('mmengine') if name.startswith('psmnet/')]
SMALL = [
    'model.form=hourglass',
    'model.channels=2',
    'model.num_blocks=[1,1,1,1]',
    'model.pool_sizes=[4,2]',
    'model.attention_place=volume',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.logger.interval=1',
    'demo_scenes.num_train=4',
    'demo_scenes.num_val=2',
    'demo_scenes.size=[32,64]',
    'train_dataloader.dataset.crop_size=[32,48]',
    'train_dataloader.batch_size=2',
    *(
        f'{part}_dataloader.{option}'
        for part in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
]


def test_recipe_is_the_published_one():
    for name in NAMES:
        cfg = load(name)
        assert cfg.optim_wrapper.optimizer.to_dict() == dict(
            type='Adam', lr=1e-3, betas=(0.9, 0.999)
        )
        assert cfg.train_cfg.max_epochs == 10
        assert cfg.train_dataloader.dataset.crop_size == (256, 512)
        assert 4 * cfg.train_dataloader.batch_size == 12
        assert cfg.model.max_disp == cfg.val_evaluator.max_disp == 192
        assert 'param_scheduler' not in cfg
    assert len(NAMES) == 3


def test_demo_tests_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = 'psmnet/external-psmnet_4xb3-10e_sceneflow-256x512.py'
    args = [name, '--demo', '--work-dir', 'out', '--cfg-options', *SMALL]
    main(args)
    said = capsys.readouterr().out
    assert 'Next: mmea test out/external-psmnet' in said
    before, after = map(
        float,
        re.findall(r'Validation at \d+: stereo/EPE (\S+)', said),
    )
    scalars = [
        json.loads(line)
        for path in tmp_path.rglob('scalars.json')
        for line in path.read_text().splitlines()
    ]
    _, last = [x['stereo/EPE'] for x in scalars if 'stereo/EPE' in x]
    assert after == pytest.approx(last, rel=1e-2)
    assert before != after
    assert any('loss_3' in x and 'end_point_error' in x for x in scalars)
    picture = np.asarray(Image.open('out/predictions.png').convert('RGB'))
    assert picture.std(axis=(0, 1)).min() > 20
    # The best checkpoint, on pairs in another layout, at another size.
    for scene in ('a', 'b'):
        folder = tmp_path / 'pairs' / scene
        folder.mkdir(parents=True)
        for i in (0, 1):
            noise = np.random.default_rng(i).integers(0, 256, (40, 70, 3))
            Image.fromarray(noise.astype(np.uint8)).save(folder / f'im{i}.png')
        np.savez(folder / 'disp0.npz', np.full((40, 70), 9.0))
    own = ['type=mmea.Middlebury', 'data_root=pairs', 'scale=0.5', "split=''"]
    own = [f'test_dataloader.dataset.{option}' for option in own]
    test.main([*args, *own])
    said = capsys.readouterr().out
    assert re.search(r'Test: stereo/EPE \d\S*  stereo/D1', said)
    with pytest.raises(SystemExit, match='pairs of images, is used by mmea t'):
        predict.main(['out/' + name.split('/')[1], 'pairs', '--out', 'found'])
