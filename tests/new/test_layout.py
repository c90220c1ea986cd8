import shutil
from pathlib import Path

import pytest

from mmea.errors import UserError
from mmea.new.layout import Part, find_layout


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ('files', 'ends', 'parts'),
    [
        (
            ['images/a.jpg', 'images/b.jpg', 'masks/a.png', 'masks/b.png'],
            ('.jpg', '.png'),
            dict(all=Part('images', 'masks', ['a', 'b'])),
        ),
        (
            ['images/x/a.jpg', 'labels/x/a.tif'],
            ('.jpg', '.tif'),
            dict(all=Part('images', 'labels', ['x/a'])),
        ),
        (  # splits inside
            [
                'img_dir/train/a.jpg',
                'ann_dir12/train/a.png',
                'img_dir/val/b.jpg',
                'ann_dir12/val/b.png',
            ],
            ('.jpg', '.png'),
            dict(
                train=Part('img_dir/train', 'ann_dir12/train', ['a']),
                val=Part('img_dir/val', 'ann_dir12/val', ['b']),
            ),
        ),
        (  # outside, and one for a test
            [
                f'{split}/{kind}'
                for split in ('training', 'validation', 'test')
                for kind in ('images/a.png', 'annotations/a.png')
            ],
            ('.png', '.png'),
            dict(
                train=Part('training/images', 'training/annotations', ['a']),
                val=Part('validation/images', 'validation/annotations', ['a']),
                test=Part('test/images', 'test/annotations', ['a']),
            ),
        ),
        (  # in the names of the folders: CamVid's
            ['train/a.png', 'trainannot/a.png', 'val/b.png', 'valannot/b.png'],
            ('.png', '.png'),
            dict(
                train=Part('train', 'trainannot', ['a']),
                val=Part('val', 'valannot', ['b']),
            ),
        ),
        (  # of the masks alone
            ['images/a.jpg', 'images/b.jpg', 'masks/train/a.png',
             'masks/val/b.png'],
            ('.jpg', '.png'),
            dict(
                train=Part('images', 'masks/train', ['a']),
                val=Part('images', 'masks/val', ['b']),
            ),
        ),
        (  # side by side
            ['a.jpg', 'a_mask.png', 'b.c.jpg', 'b.c_mask.png'],
            ('.jpg', '_mask.png'),
            dict(all=Part('', '', ['a', 'b.c'])),
        ),
        (
            ['train/a.png', 'train/a-labels.png', 'val/b.png',
             'val/b-labels.png'],
            ('.png', '-labels.png'),
            dict(
                train=Part('train', 'train', ['a']),
                val=Part('val', 'val', ['b']),
            ),
        ),
        (['a.jpg', 'a.png'], ('.jpg', '.png'), dict(all=Part('', '', ['a']))),
        (  # both have an ending
            ['1_sat.jpg', '2_sat.jpg', '1_mask.png', '2_mask.png'],
            ('_sat.jpg', '_mask.png'),
            dict(all=Part('', '', ['1', '2'])),
        ),
        (  # hidden files and copies of an earlier time are none of them
            ['images/a.jpg', 'masks/a.png', 'label_ids/masks/a.png',
             '.cache/masks/a.png', 'images/._a.jpg'],
            ('.jpg', '.png'),
            dict(all=Part('images', 'masks', ['a'])),
        ),
    ],
)  # fmt: skip
def test_layouts(tmp_path, files, ends, parts):
    layout = find_layout(touch(tmp_path, *files))
    assert (layout.img_suffix, layout.seg_map_suffix) == ends
    assert layout.parts == parts
    assert not layout.warnings


def test_lists_of_the_data_split(tmp_path):
    files = [f'{d}/{i}' for d in ('images', 'masks') for i in '1234']
    touch(tmp_path, *(f'{f}.png' for f in files))
    (tmp_path / 'splits').mkdir()
    (tmp_path / 'splits/train.txt').write_text('1\n3\n')
    (tmp_path / 'splits/val.txt').write_text('4\n9\n')
    assert find_layout(tmp_path).parts == dict(
        train=Part('images', 'masks', ['1', '3']),
        val=Part('images', 'masks', ['4']),
    )
    # Those of other names are of something else.
    (tmp_path / 'splits/val.txt').write_text('five\n')
    assert [*find_layout(tmp_path).parts] == ['all']


def test_what_has_no_counterpart_is_left_out(tmp_path):
    touch(tmp_path, 'images/a.jpg', 'images/b.jpg', 'images/c.jpeg')
    touch(tmp_path, 'masks/a.png', 'masks/c.png', 'masks/z.png')
    layout = find_layout(tmp_path)
    assert layout.parts['all'].names == ['a']
    assert layout.warnings == [
        '1 images end with .jpeg instead of .jpg and are left out; a data set '
        'has one suffix: rename those of the same format, convert others: '
        "'images/c.jpeg'",
        "1 images have no mask and are left out: 'images/b.jpg'",
        "1 masks have no image and are left out: 'masks/z.png'",
    ]


def test_suffixes_of_files_side_by_side(tmp_path):
    touch(tmp_path, 'a.jpg', 'b.JPG', 'c.jpg', 'd.jpg', 'e.jpg')
    touch(tmp_path, *(f'{n}_mask.png' for n in 'abe'), 'c_mask.tif')
    jpg, d, tif = find_layout(tmp_path).warnings
    assert jpg.startswith('1 images end with .JPG instead of .jpg')
    assert tif.startswith('1 masks end with .tif instead of .png')
    assert d == "1 images have no mask and are left out: 'd.jpg'"


def test_a_folder_of_each_class(tmp_path):
    touch(tmp_path, 'cat/a.jpg', 'dog/a.jpg')
    with pytest.raises(UserError, match='each folder, .*classification.md'):
        find_layout(tmp_path)


def test_mask_suffix_that_none_has(tmp_path):
    touch(tmp_path, 'a.jpg', 'a_mask.png')
    with pytest.raises(UserError, match='no masks that end with .* _gt.png;'):
        find_layout(tmp_path, mask_suffix='_gt.png')
    touch(tmp_path, 'images/a.jpg', 'masks/a.png')
    with pytest.raises(UserError) as error:
        find_layout(tmp_path, mask_suffix='_gt.png')
    assert '; is --mask-suffix _gt.png what masks have' in str(error.value)
    assert 'or give --mask-suffix' not in str(error.value)


def test_folders_to_choose_from(tmp_path, monkeypatch):
    touch(tmp_path, 'photos/a.jpg', 'fine_masks/a.png', 'coarse_masks/a.png')
    with pytest.raises(UserError, match="2 folders of masks: 'coarse_masks',"):
        find_layout(tmp_path)
    want = dict(all=Part('photos', 'fine_masks', ['a']))
    assert find_layout(tmp_path, masks='fine_masks').parts == want
    # As it is typed in a shell, too.
    monkeypatch.chdir(tmp_path.parent)
    name = f'{tmp_path.name}/fine_masks'
    assert find_layout(tmp_path.name, masks=name).parts == want
    with pytest.raises(UserError, match='no folder nowhere below'):
        find_layout(tmp_path, images='nowhere')


def test_folders_whose_names_say_nothing(tmp_path):
    touch(tmp_path, 'x/a.jpg', 'y/a.png')
    with pytest.raises(UserError, match='2 image files and no masks; name'):
        find_layout(tmp_path)
    layout = find_layout(tmp_path, images='x', masks='y')
    assert layout.parts == dict(all=Part('x', 'y', ['a']))


def test_suffixes_to_choose_from(tmp_path):
    for name in 'ab':
        ends = '_ids.png', '_colour.png'
        touch(tmp_path, f'images/{name}.jpg')
        touch(tmp_path, *(f'masks/{name}{end}' for end in ends))
    with pytest.raises(UserError, match="'_colour.png' and '_ids.png'"):
        find_layout(tmp_path)
    layout = find_layout(tmp_path, mask_suffix='_ids.png')
    assert layout.seg_map_suffix == '_ids.png'
    assert layout.parts['all'].names == ['a', 'b']


def test_nothing_to_find(tmp_path):
    with pytest.raises(UserError, match='no folder or file .*nowhere'):
        find_layout(tmp_path / 'nowhere')
    touch(tmp_path, 'boxes.json')
    with pytest.raises(UserError, match='no images .*COCO file .*boxes.json'):
        find_layout(tmp_path)
    touch(tmp_path, 'images/a.jpg', 'masks/b.png')
    with pytest.raises(UserError, match="no image .*'images/a.jpg', the mas"):
        find_layout(tmp_path)
    shutil.rmtree(tmp_path / 'masks')
    with pytest.raises(UserError, match='1 image files and no masks'):
        find_layout(tmp_path)
