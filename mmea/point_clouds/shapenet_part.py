import json
from pathlib import Path

import numpy as np

from mmea.errors import UserError
from mmea.registry import DATASETS

from .cloud_set import CloudSet
from .clouds import read_cloud, read_h5

__all__ = ['ShapeNetPart']

#: Folder, name and number of parts of each class.
CLASSES = (
    ('02691156', 'Airplane', 4),
    ('02773838', 'Bag', 2),
    ('02954340', 'Cap', 2),
    ('02958343', 'Car', 4),
    ('03001627', 'Chair', 4),
    ('03261776', 'Earphone', 3),
    ('03467517', 'Guitar', 3),
    ('03624134', 'Knife', 2),
    ('03636649', 'Lamp', 4),
    ('03642806', 'Laptop', 2),
    ('03790512', 'Motorbike', 6),
    ('03797390', 'Mug', 2),
    ('03948459', 'Pistol', 3),
    ('04099429', 'Rocket', 3),
    ('04225987', 'Skateboard', 3),
    ('04379243', 'Table', 3),
)


def _count_parts() -> tuple[tuple[int, ...], ...]:
    """List the parts of each class, which are counted through."""
    parts, first = [], 0
    for _, _, number in CLASSES:
        parts.append(tuple(range(first, first + number)))
        first += number
    return tuple(parts)


@DATASETS.register_module()
class ShapeNetPart(CloudSet):
    """ShapeNet-part: 16 classes, 50 parts, a label for each point.

    Found in ``data_root``, the first that is there::

        *train*.h5, ...                     arrays data, label and pid
        train_test_split/shuffled_*_file_list.json
        02691156/ID.txt, ...                x y z nx ny nz part in a row

    ``part_names.json``, if it is there, names the parts: the names of classes,
    and for each a list in the order of its labels. The metainfo has them as
    ``part_names``.

    Of the points in text files ``num_points`` are drawn, again and again
    those of a cloud of fewer; of HDF5 the first are taken.

    Args:
        data_root, channels, seed, pipeline, kwargs: See :class:`CloudSet`.
        split (str): 'train', 'val', 'trainval' or 'test'.
        num_points (int): Default: 1024; 2048 are usual.

    Raises:
        UserError: No such folder, no cloud in it, or a file that is something
            else or has parts of another class.
    """

    SPLITS = ('train', 'val', 'trainval', 'test')
    METAINFO = dict(
        classes=tuple(name for _, name, _ in CLASSES), parts=_count_parts()
    )

    def load_data_list(self) -> list[dict]:
        self._read_names()
        splits = [self.split]
        if self.split == 'trainval':
            splits = ['train', 'val']
        found = [
            info
            for split in splits
            for info in self._find_h5(split) or self._find_text(split)
        ]
        return self.require(
            found,
            f'*{splits[0]}*.h5 and train_test_split/'
            f'shuffled_{splits[0]}_file_list.json',
        )

    def read(
        self, info: dict, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, parts = info.pop('rows', None), info.pop('parts', None)
        if rows is None:
            rows = read_cloud(Path(info['path']), self.num_points, rng)
            if rows.shape[1] < 4:
                raise UserError(
                    f'{info["path"]} has no column for parts behind the '
                    'coordinates'
                )
            few = len(rows) < self.num_points
            rows = rows[rng.choice(len(rows), self.num_points, replace=few)]
            rows, parts = rows[:, :-1], rows[:, -1]
        parts = parts[: self.num_points].astype(np.int64)
        label = info['gt_label']
        if not 0 <= label < len(CLASSES):
            raise UserError(
                f'{info["path"]} has the label {label}; classes are 0 to '
                f'{len(CLASSES) - 1}'
            )
        own = self.METAINFO['parts'][label]
        if not np.isin(parts, own).all():
            raise UserError(
                f'{info["path"]} is a {CLASSES[label][1]}, whose parts are '
                f'{own[0]} to {own[-1]}, and has the part labels '
                f'{np.unique(parts).tolist()}'
            )
        return rows[: self.num_points], parts

    def _read_names(self) -> None:
        path = self.folder / 'part_names.json'
        if not path.is_file():
            return
        numbers = {name: number for _, name, number in CLASSES}
        try:
            names = json.loads(path.read_text(encoding='utf-8'))
            bad = {k for k, n in names.items() if len(n) > numbers[k]}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f'{path} must be such as {{"Mug": ["body", "handle"]}}: '
                f'{type(error).__name__}: {error}'
            ) from None
        if bad:
            kind = sorted(bad)[0]
            raise UserError(
                f'{path} names {len(names[kind])} parts of {kind}, which has '
                f'{numbers[kind]}'
            )
        self._metainfo['part_names'] = names

    def _find_h5(self, split: str) -> list[dict]:
        found = []
        for file in sorted(self.folder.glob(f'*{split}*.h5')):
            arrays = read_h5(file, 'data', 'label', 'pid')
            arrays[1] = arrays[1].ravel()
            for i, (rows, label, parts) in enumerate(zip(*arrays)):
                path = f'{file}[{i}]'
                found.append(
                    dict(
                        path=path,
                        rows=rows,
                        parts=parts,
                        gt_label=int(label),
                    )
                )
        return found

    def _find_text(self, split: str) -> list[dict]:
        file = f'shuffled_{split}_file_list.json'
        path = self.folder / 'train_test_split' / file
        if not path.is_file():
            return []
        labels = {folder: i for i, (folder, _, _) in enumerate(CLASSES)}
        try:
            names = [
                name.split('/')[-2:] for name in json.loads(path.read_text())
            ]
            return [
                dict(
                    path=str(self.folder / folder / f'{stem}.txt'),
                    gt_label=labels[folder],
                )
                for folder, stem in names
            ]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f'{path} must list names such as shape_data/02691156/ID: '
                f'{type(error).__name__}: {error}'
            ) from None
