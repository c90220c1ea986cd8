import cv2
import numpy as np
import pytest
from PIL import Image

from mmea.errors import UserError
from mmea.new.labels import count_ids, find_palette, read_ids, write_labels

from .conftest import write_pair


def test_ids_are_counted(folder):
    write_pair(folder, 'x.jpg', 'deep.png', (0, 300), (2, 4))
    assert read_ids(folder / 'deep.png').max() == 300
    count, broken = count_ids([folder / 'masks/1.png', folder / 'deep.png'])
    assert count == {0: 40 * 32 + 4, 1: 40 * 32, 300: 4}
    assert not broken


def test_files_that_cannot_be_decoded(folder):
    bad = folder / 'masks/3.png'
    bad.write_bytes(bad.read_bytes()[:60])
    count, broken = count_ids([bad, folder / 'masks/1.png'])
    assert count == {0: 1280, 1: 1280}
    assert broken == [str(bad)]


def test_colours_are_listed(folder):
    path = folder / 'masks/0.png'
    colours = np.zeros((4, 8, 3), np.uint8)
    colours[:, 6:] = 0, 0, 200  # BGR
    cv2.imwrite(str(path), colours)
    with pytest.raises(UserError) as error:
        count_ids([folder / 'masks/1.png', path])
    text = str(error.value)
    assert 'hold colours (RGB), not ids of classes: data/masks/0.png' in text
    assert 'with 2 colours, the most common (0, 0, 0), (200, 0, 0);' in text
    cv2.imwrite(str(path), np.arange(300).reshape(10, 10, 3).astype(np.uint8))
    with pytest.raises(UserError, match='with 100 colours.* and 80 more;'):
        count_ids([path])


def test_palettes(tmp_path):
    image = Image.fromarray(np.array([[0, 2], [1, 2]], np.uint8), 'P')
    image.putpalette([0, 0, 0, 9, 8, 7, 1, 2, 3])
    image.save(tmp_path / 'a.png')
    assert count_ids([tmp_path / 'a.png'])[0] == {0: 1, 1: 1, 2: 2}
    want = [(0, 0, 0), (9, 8, 7), (1, 2, 3)]
    assert find_palette(tmp_path / 'a.png', 3) == want
    # Two alike would not be told apart.
    image.putpalette([0, 0, 0, 9, 8, 7, 9, 8, 7])
    image.save(tmp_path / 'a.png')
    assert find_palette(tmp_path / 'a.png', 3) is None
    image.convert('L').save(tmp_path / 'grey.png')
    assert find_palette(tmp_path / 'grey.png', 2) is None


def test_copies(tmp_path):
    write_pair(tmp_path, 'a.jpg', 'a.png', (0, 7, 255, 9), (1, 4))
    write_labels({'b/c.png': tmp_path / 'a.png'}, tmp_path / 'new', [0, 7])
    copy = cv2.imread(str(tmp_path / 'new/b/c.png'), cv2.IMREAD_UNCHANGED)
    assert copy.tolist() == [[0, 1, 255, 255]]
