import logging
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger

from mmea.engine.data_checks.coco_annotations import _runs, check_annotations
from mmea.errors import UserError

IMAGE = dict(id=4, file_name='4.jpg', width=30, height=20)
ANNOTATION = dict(
    id=9,
    image_id=4,
    category_id=1,
    bbox=[1, 2, 3, 4],
    area=12,
    iscrowd=0,
    segmentation=[[1, 2, 4, 2, 4, 6]],
)
NAN, INF = float('nan'), float('inf')


def check(*annotations, image=IMAGE, evaluated=True, masks=True):
    content = dict(
        images=[image],
        annotations=list(annotations),
        categories=[dict(id=1, name='dog')],
    )
    return check_annotations(
        content, 'the file x.json', evaluated=evaluated, masks=masks
    )


def changed(*left_out, **changes):
    annotation = deepcopy(ANNOTATION) | changes
    return {k: v for k, v in annotation.items() if k not in left_out}


def test_good_ones():
    crowd = dict(counts=[10, 590], size=[20, 30])
    annotations = [
        changed(),
        changed(id=10, iscrowd=1, segmentation=crowd),
        changed(id=11, bbox=[-3.5, 2, 10, 30]),  # in part outside
    ]
    assert check(*annotations) == 3
    assert check() == 0
    # What nobody reads may be anything.
    assert check(changed('segmentation', 'iscrowd'), evaluated=False,
                 masks=False) == 1  # fmt: skip


@pytest.mark.parametrize(
    'annotation, message',
    [
        *(
            (changed(key), f'annotation 9 has no {key}')
            for key in ('area', 'bbox', 'iscrowd', 'image_id', 'category_id')
        ),
        (changed('id'), 'annotation number 0 has no id'),
        (changed(bbox=[1, 2, 3]), r'annotation 9 has bbox=\[1, 2, 3\]; write'),
        (changed(bbox=[1, NAN, 3, 4]), 'nan.*not of finite numbers'),
        (changed(bbox=[1, 2, INF, 4]), 'not of finite numbers'),
        (changed(bbox=[1, '2', 3, 4]), 'not of finite numbers'),
        (changed(area='big'), "area='big'"),
        (changed(segmentation='1 2 3'), 'that is str: polygons or RLE'),
        (changed('segmentation'), 'that is NoneType'),
        (changed(segmentation=[]), 'without a polygon'),
        (changed(segmentation=[[1, 2, 4, 2]]), 'no list of x, y of three'),
        (changed(segmentation=[[1, 2, 4, 2, 4, NAN]]), 'no list of x, y'),
        (changed(segmentation=[[1, 2, 1e9, 2, 4, 6]]), 'far outside'),
        (
            changed(segmentation=dict(counts=[10, 10**9], size=[20, 30])),
            'whose counts are 1000000010 pixels, its image has 600',
        ),
        (
            changed(segmentation=dict(counts=[-5, 605], size=[20, 30])),
            'counts are no runs',
        ),
        (
            changed(segmentation=dict(counts=[600], size=[30, 20])),
            r'of the size \[30, 20\], its image has \[20, 30\]',
        ),
        ('text', "annotation number 0 is 'text', no dict"),
    ],
    ids=lambda x: x[:25] if isinstance(x, str) else '',
)
def test_one_that_ends_a_run(annotation, message):
    with pytest.raises(UserError, match=f'the file x.json: .*{message}'):
        check(annotation)


@pytest.mark.parametrize(
    'image, message',
    [
        (dict(IMAGE, width='30'), "image 4 has width='30'"),
        (dict(IMAGE, height=0), 'height=0'),
        (dict(IMAGE, file_name=None), 'file_name=None'),
        ({k: IMAGE[k] for k in ('id', 'height')}, 'no file_name, width'),
    ],
)
def test_an_image_that_ends_a_run(image, message):
    with pytest.raises(UserError, match=message):
        check(changed(), image=image)


def test_ids_that_are_there_twice():
    with pytest.raises(UserError, match='annotation 9 is there twice'):
        check(changed(), changed())


def test_the_id_of_no_match():
    """pycocotools counts an object of id 0 as missed, whatever is found."""
    with pytest.raises(UserError, match='id=0, .* number from 1'):
        check(changed(id=0))
    assert check(changed(id=0), evaluated=False) == 1


def test_what_is_left_out_is_counted_and_said_once():
    lines = []
    logger = MMLogger.get_instance('test_coco_annotations')
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    good = check(
        changed(),
        changed(id=1, image_id='4'),
        changed(id=2, image_id=5),
        changed(id=3, category_id='1'),
        changed(id=4, bbox=[1, 2, -3, 4]),
        changed(id=5, area=0),
        changed(id=6, bbox=[31, 2, 3, 4]),
    )
    assert good == 1
    (line,) = lines
    assert '6 of 7 annotations are left out (2 with an image_id that' in line
    assert '2 with a box below one pixel, or no area, 1 with a box out' in line


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.booleans(), min_size=1, max_size=9), min_size=1
    ).filter(lambda rows: len({len(row) for row in rows}) == 1)
)
def test_compressed_runs_are_those_of_pycocotools(rows):
    coco = pytest.importorskip('pycocotools.mask')
    mask = np.asfortranarray(rows, dtype=np.uint8)
    text = coco.encode(mask)['counts'].decode()
    runs = list(_runs(text))
    assert sum(runs) == mask.size and sum(runs[1::2]) == mask.sum()
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    assert np.array_equal(values, mask.flatten('F'))
