"""Small data sets of a user's own, in the layouts that people have."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

# The label images are read by mmseg's loader.
pytest.importorskip('mmseg')


def write_pair(
    root: Path, image: str, label: str, ids=(0, 1), size=(40, 64), **params
):
    """One photo, and a label image with a stripe of each id."""
    rng = np.random.default_rng(len(image))
    labels = np.repeat(np.array(ids), -(-size[1] // len(ids)))[: size[1]]
    dtype = np.uint16 if max(ids) > 255 else np.uint8
    labels = np.tile(labels, (size[0], 1)).astype(dtype)
    picture = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    for name, pixels in ((image, picture), (label, labels)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with ten pairs in data/images and data/masks."""
    monkeypatch.chdir(tmp_path)
    for i in range(10):
        write_pair(Path('data'), f'images/{i}.jpg', f'masks/{i}.png')
    return Path('data')


def write_coco(path: Path, number: int = 10, masks: bool = True) -> dict:
    """A COCO file and its images beside it; two boxes in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(
        images=[], annotations=[], categories=[
            dict(id=3, name='cat'), dict(id=7, name='dog')
        ]
    )  # fmt: skip
    for i in range(number):
        name = f'{i:02}.jpg'
        image = np.full((48, 64, 3), 10 * i, np.uint8)
        assert cv2.imwrite(str(path.parent / name), image)
        content['images'].append(
            dict(id=i, file_name=name, height=48, width=64)
        )
        for j, category in enumerate((3, 3) if i else (3, 7)):
            x, y, w, h = box = [4 + 20 * j, 6, 16, 16 + 8 * j]
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation = dict(
                id=2 * i + j + 1,
                image_id=i,
                category_id=category,
                bbox=box,
                area=w * h,
                iscrowd=0,
            )
            if masks:
                annotation['segmentation'] = [polygon]
            content['annotations'].append(annotation)
    path.write_text(json.dumps(content))
    return content


@pytest.fixture
def coco(tmp_path, monkeypatch) -> Path:
    """The working directory, with data/all.json of ten images."""
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    write_coco(Path('data/all.json'))
    return Path('data/all.json')
