"""Bring BCCD's annotations into the form of COCO that configs/bccd reads.

    python tools/dataset_converters/bccd.py BCCD_Dataset/BCCD --out data/bccd

docs/data.md has its source.
"""

import argparse
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

from mmengine.utils import track_iter_progress

from mmea.cli.common import command
from mmea.errors import UserError

CLASSES = ('RBC', 'WBC', 'Platelets')
EDGES = ('xmin', 'ymin', 'xmax', 'ymax')


def read(path: Path) -> tuple[tuple[int, int], list[tuple[int, list[int]]]]:
    """Read the size of an image, and category and COCO's box of objects."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f'{path} is damaged: {error}') from error

    def number(key: str, part: ElementTree.Element = root) -> int:
        text = part.findtext(key)
        if text is None:
            raise UserError(f'{path} has no {key}')
        return int(text)

    width, height = number('size/width'), number('size/height')
    objects = []
    for part in root.iter('object'):
        name = part.findtext('name')
        if name not in CLASSES:
            raise UserError(f'{path} has an object {name!r}, not of {CLASSES}')
        x1, y1, x2, y2 = (number(f'bndbox/{key}', part) for key in EDGES)
        if x1 < x2 and y1 < y2:  # of two they are the same
            # They count pixels from 1, the last one included.
            x1, y1 = max(x1, 1) - 1, max(y1, 1) - 1
            box = [x1, y1, min(x2, width) - x1, min(y2, height) - y1]
            objects.append((CLASSES.index(name) + 1, box))
    return (width, height), objects


def convert(source: Path, out: Path) -> None:
    (out / 'annotations').mkdir(parents=True, exist_ok=True)
    for part in ('train', 'val', 'test'):
        names = (source / f'ImageSets/Main/{part}.txt').read_text().split()
        (out / part).mkdir(exist_ok=True)
        images: list[dict] = []
        boxes: list[dict] = []
        for name in track_iter_progress(names):
            size, objects = read(source / 'Annotations' / f'{name}.xml')
            file, i = f'{name}.jpg', len(images) + 1
            shutil.copy(source / 'JPEGImages' / file, out / part / file)
            images.append(
                dict(id=i, file_name=file, width=size[0], height=size[1])
            )
            for category, box in objects:
                boxes.append(
                    dict(
                        id=len(boxes) + 1,
                        image_id=i,
                        category_id=category,
                        bbox=box,
                        area=box[2] * box[3],
                        iscrowd=0,
                    )
                )
        categories = [
            dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)
        ]
        made = dict(images=images, annotations=boxes, categories=categories)
        path = out / 'annotations' / f'{part}.json'
        path.write_text(json.dumps(made))


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'source', type=Path, help='the folder BCCD of the repository'
    )
    parser.add_argument('--out', type=Path, default=Path('data/bccd'))
    args = parser.parse_args(argv)
    try:
        convert(args.source, args.out)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    main()
