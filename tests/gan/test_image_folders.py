import pickle

import cv2
import numpy as np
import pytest
import torch

from mmea.errors import UserError
from mmea.gan.cifar10_batches import CLASSES
from mmea.registry import DATASETS


def folders(root, *names, size=(8, 8), number=2):
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(number):
            image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f'{i}.png'), image)
    return str(root)


def build(root, img_size=8, **kwargs):
    cfg = dict(type='mmea.ClassFolders', data_root=root, img_size=img_size)
    return DATASETS.build(cfg | kwargs)


def test_folders(tmp_path):
    root = folders(tmp_path, 'dog', 'cat')
    (tmp_path / 'dog' / 'notes.txt').write_text('')
    (tmp_path / '.cache').mkdir()
    (tmp_path / 'cat' / 'images').mkdir()
    (tmp_path / 'cat' / '1.png').rename(tmp_path / 'cat' / 'images' / '1.png')
    data = build(root)
    assert data.metainfo == dict(classes=('cat', 'dog'))
    assert data.labels == [0, 0, 1, 1] and len(data) == 4
    item = data[2]
    sample = item['data_samples']
    assert sample.gt_label.tolist() == [1]
    assert sample.img_path == str(tmp_path / 'dog' / '0.png')
    want = cv2.imread(sample.img_path)[..., ::-1]  # BGR there
    assert torch.equal(
        item['inputs'], torch.from_numpy(want.transpose(2, 0, 1).copy())
    )
    torch.manual_seed(0)
    flipped = [build(root, flip=True)[2]['inputs'] for _ in range(12)]
    kinds = {
        torch.equal(image, item['inputs'].flip(2))
        for image in flipped
        if not torch.equal(image, item['inputs'])
    }
    assert kinds == {True}
    assert any(torch.equal(image, item['inputs']) for image in flipped)


def test_a_part_under_other_names(tmp_path):
    root = folders(tmp_path, 'train/a', 'train/b', 'val/a', number=5)
    data = build(root, split='train', classes=('x', 'y'), per_class=2)
    assert data.metainfo == dict(classes=('x', 'y'))
    assert data.labels == [0, 0, 1, 1]  # spread: the first and the third
    assert [p.name for p in data.paths] == ['0.png', '2.png'] * 2
    for number, want in ((3, 3), (4, 4), (5, 5), (9, 5)):
        data = build(root, split='val', per_class=number)
        assert len(data) == want
    with pytest.raises(UserError, match='2 folders.* classes has 3 names'):
        build(root, split='train', classes='xyz')
    with pytest.raises(ValueError, match='per_class must be'):
        build(root, split='val', per_class=0)


@pytest.mark.parametrize('size', [(16, 24), (25, 16), (4, 6)])
def test_resize_cuts_the_middle(tmp_path, size):
    root = folders(tmp_path, 'a', number=1)
    image = np.zeros((*size, 3), np.uint8)
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    image[top : top + side, left : left + side] = 200
    cv2.imwrite(str(tmp_path / 'a' / '0.png'), image)
    inputs = build(root, resize=True)[0]['inputs']
    assert inputs.shape == (3, 8, 8) and inputs.eq(200).all()


def test_what_is_wrong_with_folders(tmp_path):
    with pytest.raises(UserError, match='absent: No such file'):
        build(str(tmp_path / 'absent'))
    with pytest.raises(UserError, match='no folders, one for each class'):
        build(str(tmp_path))
    root = folders(tmp_path, 'a', 'b', size=(8, 9))
    with pytest.raises(UserError, match='0.png has 8 x 9 .*resize=True'):
        build(root)[0]
    for text in (b'', b'no image'):
        (tmp_path / 'a' / '0.png').write_bytes(text)
        with pytest.raises(UserError, match='0.png is no image'):
            build(root)[0]
    (tmp_path / 'c').mkdir()
    with pytest.raises(UserError, match='class folder .*c has no images'):
        build(root)
    for kwargs in (dict(img_size=0), dict(resize=1), dict(flip='no')):
        (name,) = kwargs
        with pytest.raises(ValueError, match=name):
            build(root, **kwargs)


def text(value):
    """A string of Python 2."""
    return b'U' + bytes([len(value)]) + value


def batch(pixels, labels, extra=b'') -> bytes:
    """A pickle as Python 2 and its numpy wrote it, opcode by opcode."""
    raw = pixels.tobytes()
    dtype = b'cnumpy\ndtype\n' + text(b'u1') + b'K\x00K\x01\x87R'
    dtype += b'(K\x03' + text(b'|') + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff'
    dtype += b'K\x00tb'
    array = b'cnumpy.core.multiarray\n_reconstruct\n'
    array += b'cnumpy\nndarray\nK\x00\x85' + text(b'b') + b'\x87R'
    array += b'(K\x01' + b''.join(
        b'J' + n.to_bytes(4, 'little') for n in pixels.shape
    )
    array += b'\x86' + dtype + b'\x89T' + len(raw).to_bytes(4, 'little') + raw
    array += b'tb'
    numbers = b''.join(b'K' + bytes([label]) for label in labels)
    return (
        b'\x80\x02}(' + text(b'data') + array + text(b'labels')
        + b'](' + numbers + b'e' + extra + b'u.'
    )  # fmt: skip


def cifar(root, split='train'):
    return DATASETS.build(
        dict(type='mmea.CIFAR10', data_root=str(root), split=split)
    )


def test_cifar10(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(6, 2, 3, 32, 32), dtype=np.uint8)
    for i in range(5):
        (tmp_path / f'data_batch_{i + 1}').write_bytes(
            batch(images[i].reshape(2, -1), [i, 9])
        )
    (tmp_path / 'test_batch').write_bytes(
        batch(images[5].reshape(2, -1), [8, 0])
    )
    data = cifar(tmp_path)
    assert len(data) == 10 and data.labels == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert data.metainfo == dict(classes=CLASSES)
    assert torch.equal(data[5]['inputs'], torch.from_numpy(images[2, 1]))
    data = cifar(tmp_path, 'test')
    assert data.labels == [8, 0]
    assert torch.equal(data[0]['inputs'], torch.from_numpy(images[5, 0]))


class Evil:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (pickle.dumps(Evil(), 2), 'it asks for .*exec'),
        (b'', 'EOFError'),
        (b'text', 'no batch of CIFAR-10'),
        (pickle.dumps({b'data': 1}), 'no batch of CIFAR-10'),
        (batch(np.zeros((1, 3072), np.uint8), [10]), 'not one of 0..9'),
        (batch(np.zeros((1, 3071), np.uint8), [1]), 'reshape'),
        (batch(np.zeros((2, 3072), np.uint8), [1]), 'reshape'),
    ],
)
def test_what_is_no_batch_of_cifar10(tmp_path, content, message):
    (tmp_path / 'test_batch').write_bytes(content)
    with pytest.raises(UserError, match=message):
        cifar(tmp_path, 'test')


def test_cifar10_is_missing(tmp_path):
    with pytest.raises(UserError, match='data_batch_1: No such .*batches-py'):
        cifar(tmp_path)
    with pytest.raises(ValueError, match="split='val'"):
        cifar(tmp_path, 'val')
