"""What is wrong with the data is said before anything is built."""

import json
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from torch import nn

from mmea.engine.data_checks import check_data, check_heads
from mmea.errors import UserError

COCO = dict(
    images=[
        dict(id=i, file_name=f'{i}.jpg', width=30, height=20) for i in range(3)
    ],
    annotations=[
        dict(
            id=1,
            image_id=1,
            category_id=7,
            bbox=[1, 2, 3, 4],
            area=12,
            iscrowd=0,
        )
    ],
    categories=[dict(id=5, name='cat'), dict(id=7, name='dog')],
)


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check a COCO data set; the one line of its error, None without."""
    pytest.importorskip('mmdet.datasets')
    monkeypatch.chdir(tmp_path)
    Path('data/images').mkdir(parents=True)
    for image in COCO['images']:
        Path('data/images', image['file_name']).touch()

    def call(content=COCO, *, evaluator=None, **dataset) -> str | None:
        if not isinstance(content, str):
            content = json.dumps(content)
        Path('data/boxes.json').write_text(content)
        dataset = dict(
            dict(
                type='CocoDataset',
                data_root='data',
                ann_file='boxes.json',
                data_prefix=dict(img='images'),
                metainfo=dict(classes=('cat', 'dog')),
            ),
            **dataset,
        )
        cfg = Config(
            dict(
                default_scope='mmdet',
                val_dataloader=dict(dataset=dataset),
                val_evaluator=evaluator,
            )
        )
        try:
            check_data(cfg, 'val_dataloader')
        except UserError as error:
            assert '\n' not in str(error)
            return str(error)
        return None

    return call


def changed(**keys):
    return dict(deepcopy(COCO), **keys)


def test_good_files(check):
    assert check() is None
    assert check(metainfo=dict(classes=['dog'])) is None
    assert check(type='mmdet.CocoDataset') is None
    inner = dict(COCO['images'][0], id=7, file_name='more/a.jpg')
    Path('data/images/more').mkdir()
    Path('data/images/more/a.jpg').touch()
    assert check(changed(images=[*COCO['images'], inner])) is None


def test_classes_that_the_file_does_not_have(check):
    message = check(metainfo=dict(classes=('cat', 'cow', 'dog', 'hen')))
    assert message.startswith(
        'the annotation file data/boxes.json (val_dataloader.dataset.ann_file)'
        " has no category 'cow', 'hen'; its categories are 'cat', 'dog': set "
        'val_dataloader.dataset.metainfo.classes'
    )
    # Forgotten: mmdet takes the 80 classes of COCO.
    message = check(metainfo=None)
    assert "no category 'person', 'bicycle'" in message
    assert 'and 73 more' in message and "COCO's 80" in message


def test_classes_in_another_order(check):
    message = check(metainfo=dict(classes=('dog', 'cat')))
    assert 'another order' in message and "write them as 'cat', 'dog'" in (
        message
    )


def test_one_class_without_a_comma(check):
    message = check(metainfo=dict(classes='dog'))
    assert "classes is the text 'dog'" in message
    assert "write ('dog',)" in message
    Path('names.txt').write_text('cat\ndog\n')
    assert check(metainfo=dict(classes='names.txt')) is None


def test_empty_files(check):
    where = 'the annotation file data/boxes.json'
    assert f'{where} (val_dataloader.dataset.ann_file) holds no images' in (
        check(changed(images=[]))
    )
    empty = changed(annotations=[])
    message = check(empty)
    assert 'holds no annotations' in message and 'format_only' not in message
    assert 'set format_only=True' in check(empty, test_mode=True)
    message = check(metainfo=dict(classes=['cat']))
    assert "holds 1 annotations, and none of 'cat'" in message


def test_a_test_server_keeps_the_annotations(check):
    content = changed()
    del content['annotations']
    evaluator = dict(type='CocoMetric', format_only=True)
    assert check(content, evaluator=evaluator) is None
    assert check(content, evaluator=[dict(type='X'), evaluator]) is None
    assert 'no annotations' in check(content)


@pytest.mark.parametrize(
    'content',
    ['', '[]', '{"images": 3}', '{"images": [], "annotations": []}'],
)
def test_other_files(check, content):
    message = check(content)
    assert 'boxes.json' in message and 'is not in COCO format' in message


def test_annotations_that_cannot_be_used(check):
    (annotation,) = COCO['annotations']
    broken = dict(annotation, bbox=[1, 2, 3])
    assert 'annotation 1 has bbox=[1, 2, 3]' in check(
        changed(annotations=[broken])
    )
    empty = dict(annotation, area=0)
    assert 'none of which can be used' in check(changed(annotations=[empty]))
    # Masks are looked at where they are read, iscrowd in evaluation.
    assert check(changed(annotations=[annotation])) is None
    load = [dict(type='LoadAnnotations', with_mask=True)]
    message = check(changed(annotations=[annotation]), pipeline=load)
    assert 'annotation 1 has a segmentation that is NoneType' in message
    annotation = dict(annotation)
    del annotation['iscrowd']
    assert check(changed(annotations=[annotation])) is None
    message = check(changed(annotations=[annotation]), test_mode=True)
    assert 'annotation 1 has no iscrowd' in message


def test_images_that_are_missing(check):
    Path('data/images/1.jpg').unlink()
    message = check()
    assert message.startswith(
        '1 of the 3 images of the annotation file data/boxes.json '
        "(val_dataloader.dataset.ann_file) are not in data/images: '1.jpg';"
    )
    assert 'set val_dataloader.dataset.data_prefix.img' in message
    images = [
        dict(COCO['images'][0], id=i, file_name=f'gone/{i}.jpg')
        for i in range(7)
    ]
    message = check(changed(images=images))
    assert '7 of the 7 images' in message
    assert "'gone/4.jpg' and 2 more;" in message


def test_annotations_of_the_evaluator(check):
    good = dict(type='CocoMetric', ann_file='data/boxes.json')
    assert check(evaluator=good) is None
    message = check(evaluator=[good, dict(good, ann_file='other.json')])
    assert 'other.json (val_evaluator.1.ann_file) is missing' in message


def test_data_sets_that_are_not_known(check):
    """Files of LVIS are read in another way."""
    assert check('', type='LVISV1Dataset') is None
    assert check('', backend_args=dict(backend='petrel')) is None


def test_heads_without_classes_of_their_own(check):
    """A class-agnostic head has one, whatever the data hold."""
    assert check() is None  # writes the file
    dataset = dict(
        type='CocoDataset',
        data_root='data',
        ann_file='boxes.json',
        metainfo=dict(classes=('cat', 'dog')),
    )
    cfg = Config(
        dict(default_scope='mmdet', val_dataloader=dict(dataset=dataset))
    )
    model = nn.Module()
    model.mask_head = nn.Module()
    model.mask_head.num_classes = 1
    with pytest.raises(UserError, match='mask_head.num_classes is 1.* has 2'):
        check_heads(model, cfg, 'val_dataloader')
    model.mask_head.class_agnostic = True
    check_heads(model, cfg, 'val_dataloader')


def test_head_of_each_image(check):
    pipeline = [dict(type='LoadImageFromFile')]
    for i in range(3):
        cv2.imwrite(f'data/images/{i}.jpg', np.zeros((20, 30, 3), np.uint8))
    assert check(pipeline=pipeline) is None
    cv2.imwrite('data/images/1.jpg', np.zeros((30, 20, 3), np.uint8))
    words = '1.jpg is (30, 20), its annotations (20, 30)'
    assert words in check(pipeline=pipeline)
    Path('data/images/2.jpg').write_bytes(b'no picture')
    words = "cannot be decoded: 'data/images/2.jpg'"
    assert words in check(pipeline=pipeline)
