"""How demo scenes become files: one writer per layout of a real data set."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .cloud_writers import (
    finish_modelnet,
    finish_shapenet,
    render_modelnet,
    render_shapenet,
    write_modelnet,
    write_shapenet,
)
from .render import Scene, render_object
from .shapes import scene_classes
from .stereo import render_pair, write_sceneflow

__all__ = [
    'CLASS_IDS',
    'COCO_CATEGORIES',
    'IMAGENET_FOLDERS',
    'LAYOUTS',
    'Layout',
]

IGNORED = 255

# Ids in the annotation files. Cityscapes: the train ids. ImageNet: the places
# of the folders among all 1,000, for the nearest class to each of COCO's.
CLASS_IDS = dict(
    ade20k=dict(
        sky=3,
        mountain=17,
        grass=10,
        road=7,
        sea=27,
        building=2,
        tree=5,
        car=21,
        boat=77,
        person=13,
    ),
    cityscapes=dict(
        road=0,
        sidewalk=1,
        building=2,
        vegetation=8,
        terrain=9,
        sky=10,
        person=11,
        rider=12,
        car=13,
        bicycle=18,
    ),
    coco=dict(person=1, car=3, airplane=5, bus=6, boat=9, bird=16, sheep=20),
    imagenet=dict(
        bird=146, sheep=348, airplane=404, bus=779, boat=814, car=817
    ),
    voc=dict(
        background=0,
        aeroplane=1,
        bird=3,
        boat=4,
        bus=6,
        car=7,
        person=15,
        sheep=17,
    ),
)
# Albatross, ram, airliner, school bus, speedboat, sports car.
IMAGENET_FOLDERS = dict(
    bird='n02058221',
    sheep='n02412080',
    airplane='n02690373',
    bus='n04146614',
    boat='n04273569',
    car='n04285008',
)
_CITYSCAPES_LABEL_IDS = dict(
    road=7,
    sidewalk=8,
    building=11,
    vegetation=21,
    terrain=22,
    sky=23,
    person=24,
    rider=25,
    car=26,
    bicycle=33,
)


def _save(
    array: np.ndarray,
    path: Path,
    *,
    palette: np.ndarray | None = None,
    **kwargs: Any,
) -> None:
    picture = Image.fromarray(array)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **kwargs)


def _translate(scene: Scene, layout: str, ids: dict[str, int]) -> np.ndarray:
    """Scene labels to the ids of the data set: uint8 (H, W)."""
    table = [ids[name] for name in scene_classes(layout)]
    return np.array(table, np.uint8)[scene.labels]


# One writer per layout: write(root, split, number, scene), split 'train' or
# 'val', number from 0.


def _write_ade20k(root: Path, split: str, number: int, scene: Scene) -> None:
    folder = dict(train='training', val='validation')[split]
    name = f'ADE_{split}_{number + 1:08d}'
    _save(scene.image, root / f'images/{folder}/{name}.jpg', quality=95)
    ids = _translate(scene, 'ade20k', CLASS_IDS['ade20k'])
    _save(ids, root / f'annotations/{folder}/{name}.png')


def _write_cityscapes(
    root: Path, split: str, number: int, scene: Scene
) -> None:
    name = f'{split}/demo/demo_{number:06d}_000019'
    _save(scene.image, root / f'leftImg8bit/{name}_leftImg8bit.png')
    for suffix, ids in (
        ('labelTrainIds', CLASS_IDS['cityscapes']),
        ('labelIds', _CITYSCAPES_LABEL_IDS),
    ):
        _save(
            _translate(scene, 'cityscapes', ids),
            root / f'gtFine/{name}_gtFine_{suffix}.png',
        )


def _voc_palette() -> np.ndarray:
    """Colours of Pascal VOC: the bits of an id, dealt to R, G and B."""
    ids: Any = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return palette


def _write_voc(root: Path, split: str, number: int, scene: Scene) -> None:
    name = f'{dict(train=2012, val=2013)[split]}_{number:06d}'
    _save(scene.image, root / f'JPEGImages/{name}.jpg', quality=95)
    ids = _translate(scene, 'voc', CLASS_IDS['voc'])
    lists = [split, 'trainval']
    if split == 'train' and number % 2 == 0:
        # Half of the scenes once more, as in the augmented set: plain ids,
        # no palette, no borders.
        _save(ids, root / f'SegmentationClassAug/{name}.png')
        lists.append('aug')
    for instance in scene.instances:
        if instance.label:
            mask = instance.mask.astype(np.uint8)
            # Three by three pixels, which None is; cv2's types do not know.
            wide = cv2.dilate(mask, None)  # type: ignore[call-overload]
            narrow = cv2.erode(mask, None)  # type: ignore[call-overload]
            ids[wide > narrow] = IGNORED
    _save(ids, root / f'SegmentationClass/{name}.png', palette=_voc_palette())
    folder = root / 'ImageSets/Segmentation'
    folder.mkdir(parents=True, exist_ok=True)
    for stem in lists:
        with open(folder / f'{stem}.txt', 'a') as file:
            file.write(f'{name}\n')


# All 80, or a reader that goes by the position of a category would count
# wrong; per supercategory the first id and the names. '-' is an id that COCO
# does not use.
_COCO_TABLE = dict(
    person=(1, 'person'),
    vehicle=(2, 'bicycle,car,motorcycle,airplane,bus,train,truck,boat'),
    outdoor=(
        10,
        'traffic light,fire hydrant,-,stop sign,parking meter,bench',
    ),
    animal=(16, 'bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe'),
    accessory=(27, 'backpack,umbrella,-,-,handbag,tie,suitcase'),
    sports=(
        34,
        'frisbee,skis,snowboard,sports ball,kite,baseball bat,'
        'baseball glove,skateboard,surfboard,tennis racket',
    ),
    kitchen=(44, 'bottle,-,wine glass,cup,fork,knife,spoon,bowl'),
    food=(
        52,
        'banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,'
        'cake',
    ),
    furniture=(62, 'chair,couch,potted plant,bed,-,dining table,-,-,toilet'),
    electronic=(72, 'tv,laptop,mouse,remote,keyboard,cell phone'),
    appliance=(78, 'microwave,oven,toaster,sink,refrigerator'),
    indoor=(84, 'book,clock,vase,scissors,teddy bear,hair drier,toothbrush'),
)
COCO_CATEGORIES = [
    dict(supercategory=group, id=number, name=name)
    for group, (first, names) in _COCO_TABLE.items()
    for number, name in enumerate(names.split(','), first)
    if name != '-'
]
# Of an object behind others nobody annotates the last few pixels.
COCO_MIN_AREA = 32


def _write_coco(
    root: Path, split: str, number: int, scene: Scene
) -> tuple[dict, list[dict]]:
    """Write the picture; returns its entry and those of its objects."""
    # Ids are unique over both splits, as in COCO.
    image_id = number + dict(train=1, val=500_001)[split]
    name = f'{image_id:012d}.jpg'
    _save(scene.image, root / f'{split}2017/{name}', quality=95)
    height, width = scene.labels.shape
    classes = scene_classes('coco')
    annotations = []
    for instance in scene.instances:
        area = int(instance.mask.sum())
        if not instance.label or area < COCO_MIN_AREA:
            continue
        polygons = instance.polygons
        corners = np.concatenate(polygons)
        low, high = corners.min(0), corners.max(0)
        annotations.append(
            dict(
                segmentation=[
                    polygon.ravel().tolist() for polygon in polygons
                ],
                area=area,
                iscrowd=0,
                image_id=image_id,
                bbox=[*low.tolist(), *(high - low).tolist()],
                category_id=CLASS_IDS['coco'][classes[instance.label]],
            )
        )
    image = dict(file_name=name, height=height, width=width, id=image_id)
    return image, annotations


def _finish_coco(root: Path, records: dict[str, list]) -> None:
    count = 0
    for split, written in records.items():
        annotations = [a for _, entries in written for a in entries]
        for annotation in annotations:
            count += 1
            annotation['id'] = count
        path = root / f'annotations/instances_{split}2017.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        content = dict(
            info=dict(description='Scenes rendered by mmea in COCO layout'),
            licenses=[],
            images=[image for image, _ in written],
            annotations=annotations,
            categories=COCO_CATEGORIES,
        )
        path.write_text(json.dumps(content))


def _render_imagenet(index: int, **kwargs: Any) -> Scene:
    """One object each, every class in its turn."""
    names = list(IMAGENET_FOLDERS)
    return render_object('coco', names[index % len(names)], index, **kwargs)


def _write_imagenet(root: Path, split: str, number: int, scene: Scene) -> str:
    """Write the picture; returns its line in the list of its split."""
    assert scene.main is not None  # _render_imagenet sees to it
    name = scene_classes('coco')[scene.main.label]
    folder = IMAGENET_FOLDERS[name]
    stem = dict(
        train=f'{folder}_{number}', val=f'ILSVRC2012_val_{number + 1:08d}'
    )[split]
    path = f'{folder}/{stem}.JPEG'
    _save(scene.image, root / split / path, quality=95)
    return f'{path} {CLASS_IDS["imagenet"][name]}\n'


def _finish_imagenet(root: Path, records: dict[str, list]) -> None:
    # Without the lists a reader would number the few folders itself.
    for split, lines in records.items():
        path = root / f'meta/{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(''.join(lines))


@dataclass(frozen=True)
class Layout:
    """How scenes become files.

    Attributes:
        write (Callable): Takes root folder, split, number and scene.
        size (tuple[int, ...]): Default (H, W) in pixels; of clouds (N,),
            the points.
        finish (Callable | None): Called once, after the last scene, with
            the root folder and, per split, the list of what ``write``
            returned.
        render (Callable | None): Takes the index of a scene, ``size`` and
            ``seed``. Default: ``render_scene`` for the world of the layout's
            name.
    """

    write: Callable[[Path, str, int, Any], object]
    size: tuple[int, ...] = (128, 128)
    finish: Callable[[Path, dict[str, list]], None] | None = None
    render: Callable[..., Any] | None = None


LAYOUTS: dict[str, Layout] = dict(
    ade20k=Layout(_write_ade20k),
    cityscapes=Layout(_write_cityscapes, size=(128, 256)),
    coco=Layout(_write_coco, finish=_finish_coco),
    imagenet=Layout(
        _write_imagenet, finish=_finish_imagenet, render=_render_imagenet
    ),
    modelnet=Layout(
        write_modelnet, (256,), finish=finish_modelnet, render=render_modelnet
    ),
    shapenetpart=Layout(
        write_shapenet, (256,), finish=finish_shapenet, render=render_shapenet
    ),
    sceneflow=Layout(write_sceneflow, size=(96, 160), render=render_pair),
    voc=Layout(_write_voc),
)
