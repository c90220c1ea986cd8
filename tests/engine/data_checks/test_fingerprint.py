from mmengine.config import Config

from mmea.engine.data_checks import fingerprint


def write(root, name: str, text: str):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make(root) -> Config:
    write(root, 'img/a/1.jpg', 'one')
    write(root, 'img/2.jpg', 'two')
    write(root, 'ann/2.png', 'labels')
    write(root, 'train.txt', '2')
    dataset = dict(
        data_root=str(root),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        ann_file='train.txt',
    )
    return Config(dict(loader=dict(dataset=dict(dataset=dataset))))


def test_the_same_data_elsewhere(tmp_path):
    first = fingerprint(make(tmp_path / 'x'), 'loader')
    assert fingerprint(make(tmp_path / 'y'), 'loader') == first
    assert len(first) == 16 and int(first, 16)


def test_whatever_changes_shows(tmp_path):
    cfg = make(tmp_path)
    seen = [fingerprint(cfg, 'loader')]
    for name, text in [
        ('img/a/1.jpg', 'longer'),
        ('img/a/3.jpg', 'one more'),
        ('ann/2.png', 'other labels'),
        ('train.txt', '3'),  # of the same length
    ]:
        write(tmp_path, name, text)
        seen.append(fingerprint(cfg, 'loader'))
    (tmp_path / 'img/2.jpg').rename(tmp_path / 'img/4.jpg')
    seen.append(fingerprint(cfg, 'loader'))
    assert len(set(seen)) == 6
