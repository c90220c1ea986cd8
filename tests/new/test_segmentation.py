from pathlib import Path

import cv2
import numpy as np
import pytest

from mmea.engine.config import load_config
from mmea.errors import UserError
from mmea.new import new_segmentation

from .conftest import write_pair

OUT = Path('conf/mine.py')


def make(**kwargs):
    """The project of data/, and its config as the commands read it."""
    project = new_segmentation('data', OUT, **kwargs)
    project.write()
    return project, load_config(str(OUT))


def test_what_is_found(folder):
    write_pair(folder, 'images/0.jpg', 'masks/0.png', (0, 1, 1, 255))
    project, cfg = make(val_share=0.3, seed=4)
    train, val = project.summaries
    assert (train.name, train.images, val.name, val.images) == (
        'train', 7, 'val', 3
    )  # fmt: skip
    assert train.sizes == [(40, 64)] * 7
    total = {k: train.counts[k] + val.counts[k] for k in train.counts}
    # Ignored pixels do not count.
    half = 40 * 32
    assert total == {'class 0': 9.5 * half, 'class 1': 10 * half}
    assert sum(train.shares.values()) == pytest.approx(1)
    assert project.warnings == [
        '2.5% of the pixels in the masks that were read are 255, which means '
        'ignored: they are not learnt; if 255 is a class, write it as another '
        'id'
    ]
    lists = [project.files[OUT.with_name(f'mine_{s}.txt')].split()
             for s in ('train', 'val')]  # fmt: skip
    assert sorted(sum(lists, [])) == [*'0123456789']
    assert lists[0] == sorted(lists[0])
    assert make(val_share=0.3, seed=4)[0].files == project.files
    assert make(val_share=0.3, seed=5)[0].files != project.files


def test_config(folder):
    _, cfg = make(max_iters=50)
    assert cfg.classes == ('class 0', 'class 1')
    assert cfg.model.decode_head.num_classes == 2
    assert cfg.model.decode_head.attention.type == 'mmea.ExternalAttention2d'
    # Or a short training leaves out rare classes.
    assert cfg.model.decode_head.init_cfg.type == 'Xavier'
    assert cfg.model.backbone.init_cfg.type == 'mmea.Pretrained'
    assert cfg.model.data_preprocessor.size == cfg.crop_size == (32, 64)
    assert cfg.scale == (64, 40)
    data = cfg.train_dataloader.dataset
    assert data.data_root == 'data'
    assert data.data_prefix == dict(img_path='images', seg_map_path='masks')
    assert (data.img_suffix, data.seg_map_suffix) == ('.jpg', '.png')
    assert data.ann_file == f'{Path.cwd()}/conf/mine_train.txt'
    assert cfg.test_dataloader == cfg.val_dataloader
    # One number is the length.
    assert cfg.train_cfg.max_iters == 50
    assert cfg.train_cfg.val_interval == 12
    assert cfg.default_hooks.checkpoint.interval == 12
    ends = [(s.get('begin', 0), s.end) for s in cfg.param_scheduler]
    assert ends == [(0, 5), (5, 50)]
    text = OUT.read_text().replace('max_iters = 50', 'max_iters = 80')
    OUT.write_text(text)
    cfg = load_config(str(OUT))
    assert cfg.train_cfg == dict(
        type='IterBasedTrainLoop', max_iters=80, val_interval=20
    )
    assert cfg.param_scheduler[1].end == 80


def test_large_images_are_reduced(folder):
    for i in range(10):
        write_pair(
            folder, f'images/{i}.jpg', f'masks/{i}.png', size=(700, 1400)
        )
    _, cfg = make()
    assert (cfg.scale, cfg.crop_size) == ((512, 256), (256, 512))


def test_names_of_the_classes(folder):
    names = ["it's", 'a "b"', 'ü']
    project, cfg = make(classes=names)
    assert cfg.classes == tuple(names)
    assert cfg.train_dataloader.dataset.metainfo.classes == tuple(names)
    assert len({*map(tuple, cfg.palette)}) == 3
    assert project.warnings == [
        "no pixel of 1 of the 3 classes in the masks that were read: 'ü' "
        '(ids found: 0, 1); --write-labels numbers the others anew'
    ]
    with pytest.raises(UserError, match='--classes has a name twice: a a'):
        make(classes=['a', 'a'])


def test_splits_of_the_data_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, number in dict(train=3, val=2, test=1).items():
        for i in range(number):
            write_pair(
                Path('data'), f'img/{split}/{i}.png', f'gt/{split}/{i}.png'
            )
    project, cfg = make()
    assert [s.images for s in project.summaries] == [3, 2, 1]
    for split in ('train', 'val', 'test'):
        data = cfg[f'{split}_dataloader'].dataset
        assert data.data_prefix.img_path == f'img/{split}'
        assert data.data_prefix.seg_map_path == f'gt/{split}'
        assert data.ann_file.endswith(f'/mine_{split}.txt')


def test_gaps(folder):
    write_pair(folder, 'images/0.jpg', 'masks/0.png', (0, 4))
    project, cfg = make()
    assert cfg.model.decode_head.num_classes == 5
    (warning,) = project.warnings
    assert '2 of the 5 classes' in warning
    assert "'class 2', 'class 3' (ids found: 0, 1, 4)" in warning


def test_ids_outside_the_classes(folder):
    write_pair(folder, 'images/0.jpg', 'masks/0.png', (0, 4))
    with pytest.raises(UserError, match=r'ids 4, outside the 2 of --classes'):
        make(classes=['a', 'b'])


def test_too_many_ids(folder):
    write_pair(folder, 'images/0.jpg', 'masks/0.png', (0, 300))
    with pytest.raises(UserError, match='hold ids up to 300, and 255 means'):
        make()
    _, cfg = make(relabel=True)
    assert cfg.model.decode_head.num_classes == 3


def test_nothing_to_tell_apart(folder):
    for i in range(10):
        write_pair(folder, f'images/{i}.jpg', f'masks/{i}.png', (0, 0))
    with pytest.raises(UserError, match='ids 0 only: there is nothing to'):
        make()


def test_255_beside_other_ids(folder):
    for i in range(10):
        write_pair(
            folder, f'images/{i}.jpg', f'masks/{i}.png', (0, 0, 128, 255)
        )
    project, cfg = make(relabel=True)
    copies, ignored = project.warnings
    assert copies.endswith('with the ids 0 for 0, 1 for 128')
    assert ignored.startswith('25.0% of the pixels in the masks')
    assert project.summaries[0].shares == {
        'class 0': pytest.approx(2 / 3),
        'class 1': pytest.approx(1 / 3),
    }
    assert cfg.model.decode_head.num_classes == 2
    label = cv2.imread('data/label_ids/masks/3.png', cv2.IMREAD_UNCHANGED)
    assert np.unique(label).tolist() == [0, 1, 255]


def test_masks_of_jpeg(folder):
    for i in range(10):
        write_pair(folder, f'images/{i}.jpg', f'masks/{i}.JPG', (0, 255))
        Path(f'data/masks/{i}.png').unlink()
    with pytest.raises(UserError, match='are JPEG .*; save masks as PNG'):
        make()


def test_copies_wait_for_the_checks(folder):
    with pytest.raises(UserError, match='ids 1, as --write-labels .*name all'):
        make(relabel=True, classes=['a'])
    new_segmentation('data', OUT, relabel=True)
    assert not Path('data/label_ids').exists()


def test_binary_masks(folder):
    for i in range(10):
        write_pair(folder, f'images/{i}.jpg', f'masks/{i}.png', (0, 255))
    with pytest.raises(UserError) as error:
        make()
    text = str(error.value)
    assert 'ids 0, 255 only, and 255 means ignored: write 1 for 255' in text
    assert '--write-labels writes copies that count from 0' in text
    project, cfg = make(relabel=True)
    assert project.warnings == [
        '10 copies of masks are in data/label_ids, with the ids '
        '0 for 0, 1 for 255'
    ]
    label = cv2.imread('data/label_ids/masks/3.png', cv2.IMREAD_UNCHANGED)
    assert np.unique(label).tolist() == [0, 1]
    prefix = cfg.train_dataloader.dataset.data_prefix
    assert prefix.seg_map_path == 'label_ids/masks'
    assert project.summaries[0].shares == {'class 0': 0.5, 'class 1': 0.5}
    with pytest.raises(UserError, match='label_ids is there already; --forc'):
        make(relabel=True)
    make(relabel=True, force=True)
    # They are not taken for a second set of masks; or by choice alone.
    with pytest.raises(UserError, match='ids 0, 255 only'):
        make()
    _, cfg = make(masks='label_ids/masks')
    assert cfg.model.decode_head.num_classes == 2


def test_broken_and_unlike_files_are_left_out(folder):
    Path('data/images/1.jpg').write_text('no image')
    Path('data/masks/2.png').write_text('no image')
    write_pair(folder, 'x.jpg', 'masks/3.png', size=(20, 20))
    project, _ = make()
    broken, unlike = project.warnings
    assert broken == (
        '2 files cannot be decoded and are left out: '
        "'data/images/1.jpg', 'data/masks/2.png'"
    )
    assert 'images/3.jpg (40, 64), data/masks/3.png (20, 20)' in unlike
    assert [s.images for s in project.summaries] == [6, 1]
    names = ' '.join(t for p, t in project.files.items() if p.suffix == '.txt')
    assert sorted(names.split()) == [*'0456789']


def test_broken_inside(folder):
    for i in (4, 5):
        bad = folder / f'masks/{i}.png'
        bad.write_bytes(bad.read_bytes()[:60])
    project, _ = make()
    assert all('be decoded and are left' in text for text in project.warnings)
    assert sum(s.images for s in project.summaries) == 8


def test_none_can_be_used(folder):
    for path in folder.glob('masks/*'):
        path.write_text('no image')
    with pytest.raises(UserError, match='none of the 10 pairs .*10 files can'):
        make()
