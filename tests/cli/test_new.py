import os
from pathlib import Path

import pytest
from mmengine.registry import MODELS, init_default_scope

from mmea import train
from mmea.cli import new
from mmea.engine.config import load_config
from mmea.engine.data_checks import check_heads
from mmea.engine.preflight import prepare_data

from ..new.conftest import coco, folder, write_coco  # noqa: F401

LIGHT = [
    '--cfg-options',
    'model.backbone.init_cfg=None',
    *(
        f'{split}_dataloader.{key}'
        for split in ('train', 'val', 'test')
        for key in ('num_workers=0', 'persistent_workers=False')
    ),
]


def test_folder(run, folder, capsys):  # noqa: F811
    run(new.main, 'data', '--out', 'a/b.py', '--classes', 'sea', '[land]')
    out = capsys.readouterr().out
    assert {p.name for p in Path('a').iterdir()} == {
        'b.py', 'b_train.txt', 'b_val.txt'
    }  # fmt: skip
    words = ' '.join(out.split())
    assert 'train images 8 smallest, H x W 40 x 64' in words
    assert 'class pixels sea 50.0% [land] 50.0%' in words
    assert 'a/b.py is written. Next:' in out
    assert '\n  mmea check-data a/b.py\n  mmea train a/b.py\n' in out


def test_coco_file(run, coco, capsys):  # noqa: F811
    run(new.main, coco)
    assert {p.name for p in Path.cwd().iterdir()} == {
        'data', 'my_config.py', 'my_config_train.json', 'my_config_val.json'
    }  # fmt: skip
    assert 'class boxes cat ' in ' '.join(capsys.readouterr().out.split())


def test_warnings_are_printed(run, folder, capsys):  # noqa: F811
    Path('data/masks/3.png').unlink()
    run(new.main, 'data')
    assert (
        "\nwarning: 1 images have no mask and are left out: 'images/3.jpg'\n"
        in capsys.readouterr().out
    )


def test_nothing_is_replaced(run, folder):  # noqa: F811
    run(new.main, 'data', '--max-iters', 7)
    with pytest.raises(SystemExit, match='my_config.py is there already'):
        run(new.main, 'data', '--max-iters', 9)
    assert 'max_iters = 7' in Path('my_config.py').read_text()
    Path('my_config.py').unlink()
    with pytest.raises(SystemExit, match='my_config_train.txt, .*replaced'):
        run(new.main, 'data')
    run(new.main, 'data', '--max-iters', 9, '--force')
    assert 'max_iters = 9' in Path('my_config.py').read_text()


def test_out_that_cannot_be_written(run, folder):  # noqa: F811
    Path('file').touch()
    args = 'data', '--write-labels', '--out'
    with pytest.raises(SystemExit, match='cannot make the folder --out file:'):
        run(new.main, *args, 'file/q.py')
    Path(f'.q_val.{os.getpid()}.part.txt').mkdir()
    with pytest.raises(SystemExit, match='cannot write q_val.txt: Is a dir'):
        run(new.main, *args, 'q.py')
    Path('q_val.txt').touch()
    with pytest.raises(SystemExit, match='q_train.txt, .*replaced'):
        run(new.main, *args, 'q.py')
    assert not Path('data/label_ids').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['x.json', '--masks', 'm'], '--masks is for a folder of masks, DATA'),
        (['x.json', '--write-labels'], '--write-labels is for a folder'),
        (['x', '--val', 'y.json'], '--val is for a COCO file, DATA is x'),
        (['x', '--out', 'y.txt'], '--out y.txt must be a .py file'),
        (['x', '--out', "it's/y.py"], "--out it's/y.py .* an apostrophe"),
        (['x', '--val-share', '1'], '--val-share must be between 0 and 1, go'),
        (['x', '--max-iters', '1'], '--max-iters must be 2 or more, got 1'),
        (['x'], 'error: there is no folder or file x; give a folder'),
        (['x.json'], 'error: cannot read x.json: No such file'),
    ],
)
def test_odd_arguments(run, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        run(new.main, *args)


@pytest.mark.parametrize('kind', ['EncoderDecoder', 'MaskRCNN', 'RetinaNet'])
def test_models_are_built_and_checked(run, folder, coco, kind):  # noqa: F811
    write_coco(coco, masks=kind == 'MaskRCNN')
    run(new.main, 'data' if kind == 'EncoderDecoder' else coco)
    cfg = load_config(
        'my_config.py', options={'model.backbone.init_cfg': None}
    )
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert type(model).__name__ == kind
    loaders = 'train_dataloader', 'val_dataloader'
    prepare_data(cfg, *loaders)
    for loader in loaders:
        check_heads(model, cfg, loader)
    assert [m for m in model.modules() if 'External' in type(m).__name__]


@pytest.mark.slow
def test_masks_are_trained(run, folder):  # noqa: F811
    run(new.main, 'data', '--max-iters', 4)
    run(train.main, 'my_config.py', *LIGHT)
    work_dir = Path('work_dirs/my_config')
    assert (work_dir / 'iter_4.pth').exists()
    assert (work_dir / 'predictions.png').exists()


@pytest.mark.slow
@pytest.mark.parametrize('masks', [True, False])
def test_boxes_are_trained(run, coco, masks):  # noqa: F811
    write_coco(coco, masks=masks)
    run(new.main, coco, '--max-iters', 4)
    # Untrained, it finds masks everywhere.
    few = ['model.test_cfg.rcnn.max_per_img=5'] if masks else []
    run(train.main, 'my_config.py', *LIGHT, *few)
    assert Path('work_dirs/my_config/iter_4.pth').exists()
