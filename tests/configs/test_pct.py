"""PCT's configs train, validate and keep the best, on a few clouds."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

pytest.importorskip('mmcv')

import mmea  # noqa: E402
from mmea.cli.predict import main as predict  # noqa: E402
from mmea.cli.report import main as report  # noqa: E402
from mmea.test import main as evaluate  # noqa: E402
from mmea.train import main  # noqa: E402

NAMES = {
    'classifier': '_1xb32-250e_modelnet40-1024.py',
    'segmentor': '_1xb16-250e_shapenetpart-2048.py',
}
SMALL = [
    'model.backbone.stem_channels=4',
    'model.backbone.num_layers=2',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=3',
    *(
        f'{part}_dataloader.{option}'
        for part in ('train', 'val')
        for option in (
            'dataset.data_root=data',
            'dataset.num_points=20',
            'num_workers=0',
            'persistent_workers=False',
        )
    ),
]
KEYS = {
    'classifier': ['accuracy/overall', 'accuracy/class'],
    'segmentor': ['parts/instance_mIoU', 'parts/class_mIoU'],
}


def write_classes(root):
    rng = np.random.default_rng(0)
    for kind in ('bed', 'sofa'):
        for split, number in (('train', 2), ('test', 1)):
            folder = root / kind / split
            folder.mkdir(parents=True)
            for i in range(number):
                np.save(folder / f'{i}.npy', rng.random((20, 3)))


def write_parts(root):
    rng = np.random.default_rng(0)
    (root / 'train_test_split').mkdir(parents=True)
    (root / '02773838').mkdir()
    for split in ('train', 'val', 'test'):
        names = [f'shape_data/02773838/{split}{i}' for i in range(2)]
        file = f'train_test_split/shuffled_{split}_file_list.json'
        (root / file).write_text(json.dumps(names))
        for name in names:
            rows = np.column_stack([rng.random((25, 6)), np.full(25, 4.0)])
            path = root / f'{name.removeprefix("shape_data/")}.txt'
            np.savetxt(path, rows)


@pytest.mark.parametrize('kind', NAMES)
def test_a_pair_differs_in_the_attention_only(kind):
    pct, eat = (
        Config.fromfile(mmea.config(f'pct/{name}{NAMES[kind]}')).to_dict()
        for name in ('pct', 'eat')
    )
    attention = eat['model']['backbone'].pop('attention')
    assert attention == dict(type='mmea.OffsetAttention1d', external=True)
    assert eat == pct


@pytest.mark.parametrize('kind', NAMES)
@pytest.mark.parametrize('name', ['pct', 'eat'])
def test_trains(name, kind, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    options = list(SMALL)
    if kind == 'classifier':
        write_classes(tmp_path / 'data')
        options += [
            'model.backbone.num_points=(12,6)',
            'model.backbone.num_neighbours=4',
            'model.num_classes=2',
        ]
    else:
        write_parts(tmp_path / 'data')
    config = f'pct/{name}{NAMES[kind]}'
    run(main, config, '--work-dir', 'work', '--cfg-options', *options)
    lines = [
        json.loads(line)
        for file in (tmp_path / 'work').rglob('scalars.json')
        for line in file.read_text().splitlines()
    ]
    for key in KEYS[kind]:
        found = [line[key] for line in lines if key in line]
        assert len(found) == 2 and all(0 <= value <= 100 for value in found)
    assert list((tmp_path / 'work').glob('best_*.pth'))


def test_data_that_is_not_there(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    config = f'pct/eat{NAMES["classifier"]}'
    args = ['--work-dir', 'work', '--cfg-options', *SMALL]
    with pytest.raises(SystemExit, match="data_root='data' is no folder"):
        run(main, config, *args)
    write_classes(tmp_path / 'data')
    with pytest.raises(SystemExit, match='a cloud has 20 points, and PCT'):
        run(main, config, *args)


@pytest.mark.parametrize('kind', NAMES)
def test_demo(kind, tmp_path, monkeypatch, run, capsys):
    """It trains without data, draws clouds, and says what a guess gives."""
    monkeypatch.chdir(tmp_path)
    options = [
        'demo_scenes.num_train=12',
        'demo_scenes.num_val=6',
        'train_dataloader.batch_size=6',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        *(
            f'{part}_dataloader.{option}'
            for part in ('train', 'val', 'test')
            for option in ('num_workers=0', 'persistent_workers=False')
        ),
    ]
    config = f'pct/eat{NAMES[kind]}'
    args = [config, '--demo', '--work-dir', 'work', '--cfg-options', *options]
    run(main, *args)
    text = capsys.readouterr().out
    # Six classes, a cloud each.
    guess = float(text.split('/guess ')[1].split()[0])
    assert guess == pytest.approx(100 / 6, abs=0.01) or kind == 'segmentor'
    assert 0 < guess < 50
    assert f'Next: mmea test work/{Path(config).name}' in text
    names = {'predictions.png', 'predictions.html'}
    assert names <= {path.name for path in Path('work').iterdir()}
    run(evaluate, *args, '--out', 'found.pkl', '--show-dir', 'shown')
    assert names == {path.name for path in Path('shown').iterdir()}
    found = pickle.loads(Path('found.pkl').read_bytes())
    key = dict(classifier='pred_label', segmentor='pred_parts')[kind]
    assert len(found) == 6 and key in found[0]
    run(report, 'work')
    assert 'predictions.html in its work dir' in capsys.readouterr().out
    assert (
        f'eat{NAMES[kind]}'.split('.')[0]
        in Path('work/report.html').read_text()
    )
    cloud = next(Path('data/demo').rglob('*.txt'))
    config = f'work/{Path(config).name}'
    with pytest.raises(SystemExit, match='clouds of points are drawn by mmea'):
        run(predict, config, str(cloud), '--out', 'out')
    assert not Path('out').exists()
