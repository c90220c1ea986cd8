import json
import os

import numpy as np
import pytest
from PIL import Image

from mmea.cli import demo_data
from mmea.demo import FIRST_VAL, MANIFEST, demo_set, write_demo
from mmea.demo.render import Scene, render_object, render_scene
from mmea.demo.shapes import scene_classes
from mmea.demo.writers import CLASS_IDS, COCO_MIN_AREA, LAYOUTS

SMALL = dict(num_train=4, num_val=2, size=(40, 48))
# Per layout: class, arguments for (train, val), and what the reader's
# labels are less than the ids in the files (reduce_zero_label).
READERS = dict(
    ade20k=(
        'ADE20KDataset',
        [
            dict(
                data_prefix=dict(
                    img_path=f'images/{name}',
                    seg_map_path=f'annotations/{name}',
                )
            )
            for name in ('training', 'validation')
        ],
        1,
    ),
    cityscapes=(
        'CityscapesDataset',
        [
            dict(
                data_prefix=dict(
                    img_path=f'leftImg8bit/{name}',
                    seg_map_path=f'gtFine/{name}',
                )
            )
            for name in ('train', 'val')
        ],
        0,
    ),
    voc=(
        'PascalVOCDataset',
        [
            dict(
                ann_file=f'ImageSets/Segmentation/{name}.txt',
                data_prefix=dict(
                    img_path='JPEGImages', seg_map_path='SegmentationClass'
                ),
            )
            for name in ('train', 'val')
        ],
        0,
    ),
)


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns
        for path in root.rglob('*')
        if path.is_file()
    }


def stray(root):
    """What lies beside root."""
    return [path.name for path in root.parent.iterdir() if path != root]


@pytest.mark.parametrize('layout', sorted(READERS))
def test_mmseg_reads_it(layout, tmp_path):
    datasets = pytest.importorskip('mmseg.datasets')
    name, splits, shift = READERS[layout]
    write_demo(layout, tmp_path / 'set', **SMALL)
    classes = scene_classes(layout)
    for kwargs, num, start in zip(splits, (4, 2), (0, FIRST_VAL)):
        dataset = getattr(datasets, name)(
            data_root=str(tmp_path / 'set'),
            pipeline=[
                dict(type='mmseg.LoadImageFromFile'),
                dict(type='mmseg.LoadAnnotations'),
            ],
            **kwargs,
        )
        assert len(dataset) == num
        for index, sample in enumerate(dataset):
            scene = render_scene(layout, start + index, size=(40, 48))
            read = sample['gt_seg_map']
            known = read != 255
            ids = [CLASS_IDS[layout][name] - shift for name in classes]
            assert (read == np.array(ids)[scene.labels])[known].all()
            assert known.mean() > (0.6 if layout == 'voc' else 0.999)
            assert [dataset.metainfo['classes'][i] for i in ids] == list(
                classes
            )
            error = np.abs(sample['img'][..., ::-1] - scene.image.astype(int))
            assert error.mean() < 12  # JPEG; channels in the right order


def test_cityscapes_label_ids(tmp_path):
    write_demo('cityscapes', tmp_path / 'set', **SMALL)
    stem = tmp_path / 'set/gtFine/val/demo/demo_000001_000019_gtFine'
    labels = render_scene('cityscapes', FIRST_VAL + 1, size=(40, 48)).labels
    # From cityscapesScripts, in the order of scene_classes('cityscapes').
    table = np.array([7, 8, 11, 21, 22, 23, 24, 25, 26, 33])
    assert (
        np.array(Image.open(f'{stem}_labelIds.png')) == table[labels]
    ).all()


def test_cityscapes_ids_of_every_class(tmp_path):
    """A picture of one pixel for each, in the order of the test above."""
    labels = np.arange(10, dtype=np.uint8)[None]
    scene = Scene(np.zeros((1, 10, 3), np.uint8), labels, [])
    LAYOUTS['cityscapes'].write(tmp_path, 'val', 0, scene)
    stem = tmp_path / 'gtFine/val/demo/demo_000000_000019_gtFine'
    for kind, ids in (
        ('labelIds', [7, 8, 11, 21, 22, 23, 24, 25, 26, 33]),
        ('labelTrainIds', [0, 1, 2, 8, 9, 10, 11, 12, 13, 18]),
    ):
        assert np.array(Image.open(f'{stem}_{kind}.png')).tolist() == [ids]


def test_voc_lists_and_palette(tmp_path):
    root = write_demo('voc', tmp_path / 'set', **SMALL)
    lists = {
        path.stem: path.read_text().split()
        for path in (root / 'ImageSets/Segmentation').iterdir()
    }
    assert lists['train'] == [f'2012_{i:06d}' for i in range(4)]
    assert lists['val'] == ['2013_000000', '2013_000001']
    assert lists['trainval'] == lists['train'] + lists['val']
    assert lists['aug'] == ['2012_000000', '2012_000002']
    picture = Image.open(root / 'SegmentationClass/2012_000000.png')
    plain = Image.open(root / 'SegmentationClassAug/2012_000000.png')
    assert (picture.mode, plain.mode) == ('P', 'L')
    bordered, plain = np.array(picture), np.array(plain)
    assert (bordered == 255).any() and not (plain == 255).any()
    assert (bordered == plain)[bordered != 255].all()
    palette = np.reshape(picture.getpalette(), (-1, 3))
    # aeroplane, person, sheep and the border, as in the VOC kit
    assert palette[[1, 15, 17, 255]].tolist() == [
        [128, 0, 0],
        [192, 128, 128],
        [128, 64, 0],
        [224, 224, 192],
    ]


# Of COCO's 2017 annotation files.
COCO_IDS = dict(person=1, car=3, airplane=5, bus=6, boat=9, bird=16, sheep=20)


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_demo(
        'coco', tmp_path_factory.mktemp('coco') / 'set', num_train=6, num_val=3
    )


def visible(index):
    """The objects of a scene that the COCO file lists."""
    return [
        instance
        for instance in render_scene('coco', index).instances
        if instance.label and instance.mask.sum() >= COCO_MIN_AREA
    ]


def read_coco(root, split):
    path = root / f'annotations/instances_{split}2017.json'
    return json.loads(path.read_text())


def test_coco_files_and_ids(coco):
    names = {
        path.relative_to(coco).as_posix()
        for path in coco.rglob('*')
        if path.is_file()
    }
    assert names == {
        MANIFEST,
        'annotations/instances_train2017.json',
        'annotations/instances_val2017.json',
        *(f'train2017/{i:012d}.jpg' for i in range(1, 7)),
        *(f'val2017/{i:012d}.jpg' for i in range(500_001, 500_004)),
    }
    ids = []
    for split, num, start in (('train', 6, 0), ('val', 3, FIRST_VAL)):
        content = read_coco(coco, split)
        assert set(content) == {
            'info',
            'licenses',
            'images',
            'annotations',
            'categories',
        }
        assert len(content['images']) == num
        for i, image in enumerate(content['images']):
            assert image['file_name'] == f'{image["id"]:012d}.jpg'
            assert (image['height'], image['width']) == (128, 128)
            listed = [
                annotation
                for annotation in content['annotations']
                if annotation['image_id'] == image['id']
            ]
            scene = visible(start + i)
            assert [a['category_id'] for a in listed] == [
                COCO_IDS[scene_classes('coco')[instance.label]]
                for instance in scene
            ]
            assert [a['area'] for a in listed] == [
                instance.mask.sum() for instance in scene
            ]
        ids += [a['id'] for a in content['annotations']]
        assert {a['iscrowd'] for a in content['annotations']} == {0}
    assert ids == [*range(1, len(ids) + 1)] and len(ids) > 20


def test_coco_categories_are_all_80(coco):
    datasets = pytest.importorskip('mmdet.datasets')
    categories = read_coco(coco, 'train')['categories']
    names = tuple(category['name'] for category in categories)
    assert names == datasets.CocoDataset.METAINFO['classes']
    by_name = {category['name']: category for category in categories}
    assert {name: by_name[name]['id'] for name in COCO_IDS} == COCO_IDS
    assert by_name['boat']['supercategory'] == 'vehicle'
    assert by_name['toothbrush']['id'] == 90
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert {c['id'] for c in categories} == {*range(1, 91)} - unused


def test_coco_boxes_are_the_extent_of_the_polygons(coco):
    for annotation in read_coco(coco, 'train')['annotations']:
        corners = np.concatenate(
            [np.reshape(part, (-1, 2)) for part in annotation['segmentation']]
        )
        x, y, width, height = annotation['bbox']
        assert corners.min(0).tolist() == [x, y]
        assert corners.max(0).tolist() == [x + width, y + height]


def test_pycocotools_gives_the_masks_back(coco):
    api = pytest.importorskip('pycocotools.coco').COCO(
        coco / 'annotations/instances_train2017.json'
    )
    for i, number in enumerate(api.getImgIds()):
        objects = visible(i)
        annotations = api.loadAnns(api.getAnnIds(number))
        assert len(annotations) == len(objects) > 0
        for annotation, instance in zip(annotations, objects):
            assert (api.annToMask(annotation) == instance.mask).all()
            # Half a pixel less than the mask's box: corners are inside of it.
            box = np.add(instance.bbox, [0.25, 0.25, -0.5, -0.5])
            assert annotation['bbox'] == box.tolist()


def test_mmdet_reads_coco(coco):
    datasets = pytest.importorskip('mmdet.datasets')
    from mmengine.registry import DefaultScope

    for split, start in (('train', 0), ('val', FIRST_VAL)):
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = datasets.CocoDataset(
                data_root=str(coco),
                ann_file=f'annotations/instances_{split}2017.json',
                data_prefix=dict(img=f'{split}2017/'),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(
                        type='LoadAnnotations', with_bbox=True, with_mask=True
                    ),
                ],
            )
        names = dataset.metainfo['classes']
        for i, sample in enumerate(dataset):
            image = render_scene('coco', start + i).image.astype(int)
            error = np.abs(sample['img'][..., ::-1] - image)
            assert error.mean() < 12  # JPEG; channels in the right order
            objects = visible(start + i)
            assert [names[label] for label in sample['gt_bboxes_labels']] == [
                scene_classes('coco')[instance.label] for instance in objects
            ]
            masks = np.array([instance.mask for instance in objects])
            assert (sample['gt_masks'].masks == masks).all()


def test_coco_is_reproducible(coco, tmp_path):
    again = write_demo('coco', tmp_path / 'a', num_train=6, num_val=3)
    other = write_demo('coco', tmp_path / 'b', num_train=6, num_val=3, seed=1)
    for path in coco.rglob('*.*'):
        name = path.relative_to(coco)
        assert (again / name).read_bytes() == path.read_bytes()
        assert (other / name).read_bytes() != path.read_bytes()


# Of ImageNet's list of the 1,000 classes.
IMAGENET = {
    'bird': (146, 'n02058221', 'albatross, mollymawk'),
    'sheep': (348, 'n02412080', 'ram, tup'),
    'airplane': (404, 'n02690373', 'airliner'),
    'bus': (779, 'n04146614', 'school bus'),
    'boat': (814, 'n04273569', 'speedboat'),
    'car': (817, 'n04285008', 'sports car, sport car'),
}


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp('imagenet') / 'set'
    return write_demo('imagenet', root, num_train=8, num_val=3, size=(40, 48))


def imagenet_lines(start, number):
    """Kind, label and folder of each picture: every class in its turn."""
    kinds = [list(IMAGENET)[(start + i) % 6] for i in range(number)]
    return [(kind, *IMAGENET[kind][:2]) for kind in kinds]


def test_imagenet_files_and_lists(imagenet):
    train = [
        f'{folder}/{folder}_{i}.JPEG {label}'
        for i, (_, label, folder) in enumerate(imagenet_lines(0, 8))
    ]
    val = [
        f'{folder}/ILSVRC2012_val_{i:08d}.JPEG {label}'
        for i, (_, label, folder) in enumerate(imagenet_lines(FIRST_VAL, 3), 1)
    ]
    assert len({line.split('/')[0] for line in train}) == 6
    lists = {
        split: (imagenet / f'meta/{split}.txt').read_text().splitlines()
        for split in ('train', 'val')
    }
    assert lists == dict(train=train, val=val)
    names = {
        path.relative_to(imagenet).as_posix()
        for path in imagenet.rglob('*')
        if path.is_file()
    }
    assert names == {
        MANIFEST,
        'meta/train.txt',
        'meta/val.txt',
        *(f'train/{line.split()[0]}' for line in train),
        *(f'val/{line.split()[0]}' for line in val),
    }


def test_mmpretrain_reads_imagenet(imagenet):
    datasets = pytest.importorskip('mmpretrain.datasets')
    for split, number, start in (('train', 8, 0), ('val', 3, FIRST_VAL)):
        dataset = datasets.ImageNet(
            data_root=str(imagenet),
            split=split,
            pipeline=[dict(type='LoadImageFromFile')],
        )
        assert len(dataset) == number
        names = dataset.metainfo['classes']
        assert len(names) == 1000
        for i, (kind, label, _) in enumerate(imagenet_lines(start, number)):
            sample = dataset[i]
            assert sample['gt_label'] == label
            assert names[label] == IMAGENET[kind][2]
            image = render_object('coco', kind, start + i, size=(40, 48)).image
            error = np.abs(sample['img'][..., ::-1] - image.astype(int))
            assert error.mean() < 12  # JPEG; channels in the right order


def test_default_sizes(tmp_path):
    for layout, size in (
        ('ade20k', (128, 128)),
        ('cityscapes', (256, 128)),
        ('coco', (128, 128)),
        ('imagenet', (128, 128)),
        ('voc', (128, 128)),
    ):
        root = write_demo(layout, tmp_path / layout, num_train=1, num_val=1)
        paths = [*root.rglob('*.*g'), *root.rglob('*.JPEG')]
        sizes = {Image.open(path).size for path in paths}
        assert sizes == {size}


def test_second_call_writes_nothing(tmp_path):
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    before = snapshot(root)
    assert len(before) == 6 * 2 + 1
    assert write_demo('ade20k', str(root), **SMALL) == root
    assert snapshot(root) == before
    assert stray(root) == []


def test_other_arguments_replace_our_set(tmp_path):
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    write_demo('voc', root, **SMALL)
    assert (root / 'JPEGImages').is_dir()
    assert not (root / 'images').exists()
    assert stray(root) == []


def test_lost_file_is_rendered_again(tmp_path):
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    lost = root / 'images/training/ADE_train_00000001.jpg'
    data = lost.read_bytes()
    lost.unlink()
    write_demo('ade20k', root, **SMALL)
    assert lost.read_bytes() == data


def foreign_file(root):
    (root / 'notes.txt').write_text('mine')


def edited_file(root):
    path = root / 'annotations/training/ADE_train_00000001.png'
    Image.fromarray(np.ones((40, 48), np.uint8)).save(path)


def link_to_data(root):
    (root / 'real').symlink_to(root.parent / 'elsewhere')


@pytest.mark.parametrize('change', [foreign_file, edited_file, link_to_data])
def test_user_data_is_never_replaced(change, tmp_path):
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    change(root)
    before = snapshot(root)
    with pytest.raises(FileExistsError, match='out_dir=.*another out_dir'):
        write_demo('ade20k', root, seed=1, **SMALL)
    assert snapshot(root) == before


def test_folder_without_manifest_is_refused(tmp_path):
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set/a.jpg').write_text('mine')
    with pytest.raises(FileExistsError, match="holds 'a.jpg'"):
        write_demo('ade20k', tmp_path / 'set', **SMALL)
    assert (tmp_path / 'set/a.jpg').read_text() == 'mine'
    (tmp_path / 'set' / 'a.jpg').rename(tmp_path / 'set' / MANIFEST)
    with pytest.raises(FileExistsError, match=f'holds {MANIFEST!r}'):
        write_demo('ade20k', tmp_path / 'set', **SMALL)


def test_empty_folder_is_fine(tmp_path):
    (tmp_path / 'set').mkdir()
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    assert (root / MANIFEST).is_file()


@pytest.mark.parametrize('existing', [False, True])
def test_interrupt_leaves_nothing_half(existing, tmp_path, monkeypatch):
    root = tmp_path / 'set'
    before = {}
    if existing:
        write_demo('ade20k', root, **SMALL)
        before = snapshot(root)

    def interrupted(layout, index, **kwargs):
        if index == 2:
            raise KeyboardInterrupt
        return render_scene(layout, index, **kwargs)

    monkeypatch.setattr(demo_set, 'render_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo('ade20k', root, seed=1, **SMALL)
    assert root.exists() == existing
    assert snapshot(root) == before
    assert stray(root) == []


def test_faster_process_wins(tmp_path, monkeypatch):
    def overtaken(root, made):
        monkeypatch.undo()
        write_demo('ade20k', tmp_path / 'set', **SMALL)
        render(root, made)

    render = demo_set._render
    monkeypatch.setattr(demo_set, '_render', overtaken)
    root = write_demo('ade20k', tmp_path / 'set', **SMALL)
    assert len(snapshot(root)) == 13
    assert stray(root) == []


@pytest.mark.parametrize(
    'kwargs, match',
    [
        (dict(layout='kitti'), r"layout must be one of .*'kitti'"),
        (dict(num_train=0), 'num_train must be .* at least 1, got 0'),
        (dict(num_val=-3), 'num_val must be .* at least 1, got -3'),
        (dict(seed=-1), 'seed must be .* at least 0, got -1'),
        (dict(size=(16, 128)), r'at least 32 pixels, got size=\(16, 128\)'),
        (
            dict(layout='modelnet', size=(40, 48)),
            r'\(N,\), one integer of at least 32 points, got size=\(40, 48\)',
        ),
    ],
)
def test_bad_arguments(kwargs, match, tmp_path):
    arguments = dict(dict(layout='ade20k', **SMALL), **kwargs)
    with pytest.raises(ValueError, match=match):
        write_demo(out_dir=tmp_path / 'set', **arguments)
    assert list(tmp_path.iterdir()) == []


def test_bad_places(tmp_path):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(NotADirectoryError, match='is no folder'):
        write_demo('ade20k', tmp_path / 'file', **SMALL)
    with pytest.raises(OSError, match='cannot write .*file/set'):
        write_demo('ade20k', tmp_path / 'file/set', **SMALL)


@pytest.mark.skipif(
    not hasattr(os, 'geteuid') or os.geteuid() == 0,
    reason='root may write everywhere',
)
def test_unwritable_parent(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match='parent folder must be writable'):
        write_demo('ade20k', tmp_path / 'set', **SMALL)


def test_command(tmp_path, capsys):
    demo_data.main(
        [
            'voc',
            str(tmp_path / 'set'),
            '--num-train',
            '1',
            '--num-val',
            '1',
            '--size',
            '40',
            '33',
            '--seed',
            '7',
        ]
    )
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / 'set')
    picture = Image.open(tmp_path / 'set/JPEGImages/2012_000000.jpg')
    assert picture.size == (33, 40)
    for bad, words in (
        (['voc', '--num-train', '-1'], 'num_train must'),
        (['vok'], 'layout must be one of .*voc'),
    ):
        with pytest.raises(SystemExit, match=f'error: {words}'):
            demo_data.main([*bad, str(tmp_path / 'none')])
    with pytest.raises(SystemExit):
        demo_data.main(['--help'])
    told = ' '.join(capsys.readouterr().out.split())
    assert ', '.join(list(LAYOUTS)[:-1]) in told
