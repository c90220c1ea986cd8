import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmea import test, train

from .conftest import call, write_project


@pytest.fixture(scope='module')
def project_with_work(tmp_path_factory):
    root = tmp_path_factory.mktemp('trained')
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        call(train.main, 'tiny.py', '--work-dir', 'work')
    return root


@pytest.fixture
def trained(project_with_work, tmp_path, monkeypatch, run):
    """The command, in a copy of a project that was trained in work."""
    shutil.copytree(project_with_work, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return partial(run, test.main, 'tiny.py')


def metrics(folder) -> dict:
    """The numbers of the last evaluation in a work dir."""
    log = max(Path(folder).rglob('*.log'), key=lambda p: p.stat().st_mtime)
    line = [la for la in log.read_text().splitlines() if 'mIoU:' in la][-1]
    return dict(re.findall(r'(\w+): ([\d.]+)', line))


def test_evaluates_a_checkpoint(trained):
    trained('work/iter_4.pth', '--work-dir', 'test')
    by_path = metrics('test')
    trained('--work-dir', 'work')  # the latest there
    by_default = metrics('work')
    assert 0 < float(by_path['mIoU']) <= 100
    for key in ('aAcc', 'mIoU', 'mAcc'):
        assert by_default[key] == by_path[key]


def test_writes_predictions(trained):
    trained('work/iter_4.pth', '--work-dir', 'test', '--out', 'out')
    hits = total = 0
    for path in sorted(Path('out').glob('*.png')):
        pred = np.array(Image.open(path))
        label = np.array(
            Image.open(f'data/annotations/validation/{path.name}')
        )
        hits += ((pred == label) & (label > 0)).sum()
        total += (label > 0).sum()
    assert len(list(Path('out').iterdir())) == 3
    assert float(metrics('test')['aAcc']) == pytest.approx(
        100 * hits / total, abs=0.01
    )


FORMAT_ONLY = (
    'test_evaluator.format_only=True',
    'test_evaluator.output_dir=out',
)


@pytest.mark.parametrize(
    'options', [('--out', 'out'), ('--cfg-options', *FORMAT_ONLY)]
)
def test_pictures_without_labels(trained, options):
    trained('work/iter_4.pth', '--work-dir', 'test', '--out', 'want')
    shutil.rmtree('data/annotations/validation')
    trained('work/iter_4.pth', '--work-dir', 'other', *options)
    names = {path.name for path in Path('out').iterdir()}
    assert names == {'0.png', '1.png', '2.png'}
    for name in names:
        want = Path('want', name).read_bytes()
        assert Path('out', name).read_bytes() == want


def test_labels_are_needed_to_evaluate(trained):
    shutil.rmtree('data/annotations/validation')
    with pytest.raises(SystemExit, match='annotations/validation .* missing'):
        trained('work/iter_4.pth', '--work-dir', 'test')


def test_mmsegs_own_inference(trained):
    """By the config that the training left."""
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    trained('work/iter_4.pth', '--work-dir', 'test', '--out', 'out')
    picture = 'data/images/validation/0.jpg'
    want = np.array(Image.open('out/0.png')) - 1  # saved as the files are
    files = 'work/tiny.py', 'work/iter_4.pth'
    model = init_model(*files, device='cpu')
    got = inference_model(model, picture).pred_sem_seg.data.numpy()
    assert np.array_equal(got[0], want)
    inferencer = MMSegInferencer(*files, device='cpu')
    assert np.array_equal(inferencer(picture)['predictions'], want)
    shown = inferencer.model.dataset_meta
    assert shown['classes'][:2] == ('wall', 'building')
    assert shown['palette'][0] == [120, 120, 120]


def test_draws_predictions(trained):
    trained('work/iter_4.pth', '--work-dir', 'test', '--show-dir', 'show')
    assert len(list(Path('show').rglob('*.png'))) == 3


def test_time_augmentation(trained):
    with open('tiny.py', 'a') as file:
        file.write(
            "tta_pipeline = [dict(type='LoadImageFromFile'), dict(\n"
            "    type='TestTimeAug', transforms=[\n"
            "        [dict(type='RandomFlip', prob=0.),\n"
            "         dict(type='RandomFlip', prob=1.)],\n"
            "        [dict(type='LoadAnnotations')],\n"
            "        [dict(type='PackSegInputs')]])]\n"
        )
    trained('work/iter_4.pth', '--work-dir', 'test', '--tta')
    assert float(metrics('test')['mIoU']) > 0


def test_another_architecture(trained):
    with pytest.raises(
        SystemExit, match='key_memory.*in the file.*use the config that'
    ):
        trained(
            'work/iter_4.pth',
            '--work-dir',
            'test',
            '--cfg-options',
            'model.decode_head.attention.num_slots=8',
        )


def test_no_checkpoint(project, run):
    with pytest.raises(SystemExit, match='no checkpoint in nothing'):
        run(test.main, 'tiny.py', '--work-dir', 'nothing')
    with pytest.raises(SystemExit, match='no such checkpoint: gone.pth'):
        run(test.main, 'tiny.py', 'gone.pth', '--work-dir', 'test')
