import json
from pathlib import Path

import pytest

from mmea.engine.config import load_config
from mmea.errors import UserError
from mmea.files import write_text
from mmea.new import new_detection

from .conftest import write_coco

OUT = Path('conf/mine.py')


def make(ann_file, **kwargs):
    project = new_detection(str(ann_file), OUT, **kwargs)
    for path, text in project.files.items():
        write_text(path, text)
    return project, load_config(str(OUT))


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_split_by_images(coco):
    project, cfg = make(coco, val_share=0.3)
    parts = {
        s: json.loads(project.files[OUT.with_name(f'mine_{s}.json')])
        for s in ('train', 'val')
    }
    ids = {s: {i['id'] for i in c['images']} for s, c in parts.items()}
    assert (len(ids['train']), len(ids['val'])) == (7, 3)
    assert ids['train'] | ids['val'] == {*range(10)}
    for split, content in parts.items():
        assert {a['image_id'] for a in content['annotations']} == ids[split]
        assert content['categories'] == [
            dict(id=3, name='cat'),
            dict(id=7, name='dog'),
        ]
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.ann_file == f'{Path.cwd()}/conf/mine_{split}.json'
        assert dataset.data_prefix.img == 'data'
    assert cfg.val_evaluator.ann_file == cfg.val_file
    total = {
        name: sum(s.counts[name] for s in project.summaries)
        for name in ('cat', 'dog')
    }
    assert total == dict(cat=19, dog=1)
    assert project.summaries[0].sizes == [(48, 64)] * 7
    assert not project.warnings
    assert make(coco, val_share=0.3)[0].files == project.files


def test_masks_make_a_mask_rcnn(coco):
    _, cfg = make(coco)
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.model.backbone.type == 'MobileNetV2'
    assert cfg.model.neck[1].type == 'mmea.EANeck'
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.val_evaluator.metric == ['bbox', 'segm']
    assert cfg.train_pipeline[1].with_mask
    assert cfg.scale == (64, 48)
    # Three of four boxes have 16 px and more.
    assert cfg.model.rpn_head.anchor_generator.scales == [4]


def test_boxes_make_a_retinanet(coco):
    # One without is enough.
    rewrite(coco, lambda c: c['annotations'][5].pop('segmentation'))
    _, cfg = make(coco, max_iters=40)
    assert cfg.model.type == 'RetinaNet'
    assert cfg.model.neck[1].type == 'mmea.EANeck'
    assert cfg.model.bbox_head.num_classes == 2
    assert cfg.model.bbox_head.anchor_generator.octave_base_scale == 2
    assert cfg.val_evaluator.metric == 'bbox'
    assert 'with_mask' not in cfg.train_pipeline[1]
    assert cfg.train_cfg.max_iters == 40
    assert [s.end for s in cfg.param_scheduler] == [4, 40]


def test_categories_to_learn(coco):
    _, cfg = make(coco, classes=['dog'])
    assert cfg.classes == ('dog',)
    assert cfg.model.roi_head.bbox_head.num_classes == 1
    # mmdet numbers them in the order of the file.
    assert make(coco, classes=['dog', 'cat'])[1].classes == ('cat', 'dog')
    with pytest.raises(UserError, match="no category 'cow' of --classes; it "):
        make(coco, classes=['cow'])
    rewrite(coco, lambda c: c['categories'].append(dict(id=9, name='cow')))
    project, _ = make(coco)
    assert project.warnings == [
        "no annotation has the category 'cow'; leave it out by --classes"
    ]
    rewrite(coco, lambda c: c['categories'].append(dict(id=10, name='cow')))
    with pytest.raises(UserError, match='two categories of one name'):
        make(coco)


def test_file_for_validation(coco):
    write_coco(Path('other/val.json'), 3)
    project, cfg = make(coco, val_file='other/val.json')
    assert [s.images for s in project.summaries] == [10, 3]
    assert cfg.train_dataloader.dataset.data_prefix.img == 'data'
    assert cfg.val_dataloader.dataset.data_prefix.img == 'other'
    rewrite(Path('other/val.json'), lambda c: c['categories'].reverse())
    with pytest.raises(UserError, match='val.json .--val. has the categories'):
        make(coco, val_file='other/val.json')


@pytest.mark.parametrize(
    'where', ['data/images', 'data/all', 'images', 'all', 'train']
)
def test_images_are_looked_for(coco, where):
    if where == 'train':
        coco = coco.rename('data/instances_train.json')
    Path(where).mkdir(exist_ok=True)
    for path in Path('data').glob('*.jpg'):
        path.rename(Path(where, path.name))
    assert make(coco)[1].train_dataloader.dataset.data_prefix.img == where


def test_images_that_are_not_found(coco):
    Path('pictures').mkdir()
    for i in range(10):
        Path(f'data/{i:02}.jpg').rename(f'pictures/{i:02}.jpg')
    with pytest.raises(UserError, match=r"none of the 10 images .*\('00.jpg'"):
        make(coco)
    Path('pictures/04.jpg').unlink()
    project, cfg = make(coco, images='pictures')
    assert cfg.train_dataloader.dataset.data_prefix.img == 'pictures'
    assert sum(s.images for s in project.summaries) == 9
    assert project.warnings == [
        '1 images of data/all.json are not in pictures and are left out: '
        "'04.jpg'"
    ]


def test_what_mmdet_needs_is_added(coco):
    def strip(content):
        for image in content['images']:
            del image['width'], image['height']
        for annotation in content['annotations']:
            del annotation['area'], annotation['iscrowd'], annotation['id']

    rewrite(coco, strip)
    project, _ = make(coco)
    content = json.loads(project.files[OUT.with_name('mine_train.json')])
    assert {(i['height'], i['width']) for i in content['images']} == {(48, 64)}
    first, second = content['annotations'][:2]
    assert (first['area'], second['area']) == (256, 384)
    assert first['iscrowd'] == 0
    assert first['id'] != second['id']


def written(project):
    """Images and annotations of both splits."""
    contents = [
        json.loads(text)
        for path, text in project.files.items()
        if path.suffix == '.json'
    ]
    return [
        [x for content in contents for x in content[key]]
        for key in ('images', 'annotations')
    ]


def test_annotations_are_numbered_from_1(coco):
    # To pycocotools an id of 0 is no match; these are 0 to 4, many times.
    rewrite(coco, lambda c: [a.update(id=a['id'] % 5)
                             for a in c['annotations'][3:]])  # fmt: skip
    project, _ = make(coco)
    _, annotations = written(project)
    assert sorted(a['id'] for a in annotations) == [*range(1, 21)]


def test_entries_of_one_image_are_merged(coco):
    def change(content):
        first = content['images'][0]
        content['images'] += [dict(first, id=77, file_name='./00.jpg'), first]
        content['annotations'][1]['image_id'] = 77

    rewrite(coco, change)
    project, _ = make(coco)
    assert project.warnings == [
        '1 images of data/all.json have several entries, whose annotations '
        "are merged: '00.jpg'"
    ]
    images, annotations = written(project)
    assert sorted(i['id'] for i in images) == [*range(10)]
    assert [a['category_id'] for a in annotations if not a['image_id']] == [
        3, 7
    ]  # fmt: skip


def test_images_of_one_id(coco):
    rewrite(coco, lambda c: c['images'][1].update(id=0))
    with pytest.raises(UserError, match="'00.jpg' and '01.jpg' of .* id, 0,"):
        make(coco)


def test_boxes_that_are_none(coco):
    def change(content):
        for box, value in zip(
            content['annotations'], (-5, 0, float('nan'), float('inf'))
        ):
            box['bbox'][2] = value

    rewrite(coco, change)
    project, _ = make(coco)
    warning, unused = project.warnings
    assert warning == (
        '4 boxes of data/all.json are left out: their width or height is not '
        'above 0, or a number is not finite'
    )
    assert "category 'dog'" in unused
    assert len(written(project)[1]) == 16
    rewrite(coco, lambda c: [a['bbox'].__setitem__(3, -1)
                             for a in c['annotations']])  # fmt: skip
    with pytest.raises(UserError, match='can be used: 20 boxes .*; give the'):
        make(coco)


def test_boxes_beyond_their_images(coco):
    # Of 64 x 48; a pixel is allowed.
    boxes = [-1, -1, 66, 50], [-2, 0, 6, 6], [40, 8, 26, 9], [4, 8, 9, 42]
    rewrite(coco, lambda c: [a.update(bbox=box) for a, box
                             in zip(c['annotations'], boxes)])  # fmt: skip
    project, _ = make(coco)
    assert project.warnings == [
        '3 of 20 boxes of data/all.json reach beyond their images; COCO has '
        'x, y, width, height: are these x1, y1, x2, y2?'
    ]
    assert len(written(project)[1]) == 20


def test_sizes_that_are_not_those_of_the_images(coco):
    rewrite(coco, lambda c: c['images'][2].update(height=64, width=48))
    project, _ = make(coco)
    (warning,) = project.warnings
    assert warning.startswith('1 images of data/all.json have another size')
    assert warning.endswith("'02.jpg: (64, 48), on disk (48, 64)'")
    assert {i['id'] for i in written(project)[0]} == {*range(10)} - {2}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('categories'), "COCO format .KeyError: 'categories'"),
        (lambda c: c['annotations'][0].pop('bbox'), "KeyError: 'bbox'"),
        (lambda c: c['annotations'][0].update(bbox=[1, 2]), 'ValueError: not'),
        (lambda c: c.update(annotations=[]), 'holds no annotations; choose'),
        (lambda c: c.update(images=[]), 'holds no images; choose'),
    ],
)
def test_malformed_files(coco, change, message):
    rewrite(coco, change)
    with pytest.raises(UserError, match=message):
        make(coco)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match='cannot read no.json: No such file'):
        make('no.json')
