from pathlib import Path
from typing import Any

import numpy as np

from mmea.errors import UserError
from mmea.registry import DATASETS

from .cloud_set import CloudSet
from .clouds import SUFFIXES, read_cloud, read_h5

__all__ = ['ModelNet']


@DATASETS.register_module()
class ModelNet(CloudSet):
    """ModelNet40, ModelNet10, or any clouds in folders of their classes.

    Found in ``data_root``, the first that is there::

        *train*.h5, *test*.h5        arrays data (n, N, 3) and label (n, 1);
                                     shape_names.txt names the classes
        modelnet*_train.txt, ...     names chair_0001, of chair/chair_0001.txt
        chair/train/*.off, ...       meshes, or points as .npy, .txt, .pts

    Of points the first ``num_points`` are taken, as is usual; of meshes as
    many are drawn from the surface.

    Args:
        data_root, num_points, channels, seed, pipeline, kwargs: See
            :class:`CloudSet`.
        split (str): 'train' or 'test'.
        classes (list[str] | None): Names in the order of their labels.
            Default: None, those of shape_names.txt, else all folders, sorted.

    Raises:
        UserError: No such folder or class, no cloud in it, a cloud of too few
            points, or a file that is something else.

    Example:
        A mesh of each class in folders: ``dict(type='mmea.ModelNet',
        data_root='data/ModelNet40', split='train')``.
    """

    SPLITS = ('train', 'test')

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        classes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.names = classes
        super().__init__(data_root, split, **kwargs)

    def load_data_list(self) -> list[dict]:
        found = self._find_h5() or self._find_listed() or self._find_folders()
        return self.require(
            found,
            f'*{self.split}*.h5, modelnet*_{self.split}.txt and '
            f'CLASS/{self.split}/*.off (.npy, .txt, .pts)',
        )

    def read(
        self, info: dict, rng: np.random.Generator
    ) -> tuple[np.ndarray, None]:
        points = info.pop('rows', None)
        if points is None:
            points = read_cloud(Path(info['path']), self.num_points, rng)
        return points[: self.num_points], None

    def _set_classes(self, found: list[str]) -> dict[str, int]:
        names = found if self.names is None else list(self.names)
        if lost := sorted(set(names) - set(found)):
            raise UserError(
                f'{self.folder} has no class {lost[0]!r}; it has '
                f'{", ".join(found[:50])}'
            )
        self._metainfo['classes'] = tuple(names)
        return {name: i for i, name in enumerate(names)}

    def _find_h5(self) -> list[dict]:
        files = sorted(self.folder.glob(f'*{self.split}*.h5'))
        names = self.folder / 'shape_names.txt'
        if files and names.is_file():
            order = names.read_text(encoding='utf-8').split()
            self._metainfo['classes'] = tuple(order)
        if files and self.names is not None:
            known = self._metainfo.setdefault('classes', tuple(self.names))
            if known != tuple(self.names):
                raise UserError(
                    f'classes must be those of {names}, whose numbers the '
                    'files have; leave classes out'
                )
        found = []
        for file in files:
            clouds, labels = read_h5(file, 'data', 'label')
            for i, (rows, label) in enumerate(zip(clouds, labels.ravel())):
                path = f'{file}[{i}]'
                found.append(dict(path=path, rows=rows, gt_label=int(label)))
        return found

    def _find_listed(self) -> list[dict]:
        lists = sorted(self.folder.glob(f'modelnet*_{self.split}.txt'))
        if not lists:
            return []
        stems = lists[-1].read_text(encoding='utf-8').split()
        # Of both splits: a class that one lacks must not shift the labels.
        prefix = lists[-1].stem.rpartition('_')[0]
        both = [self.folder / f'{prefix}_{split}.txt' for split in self.SPLITS]
        every = [
            stem
            for file in both
            if file.is_file()
            for stem in file.read_text(encoding='utf-8').split()
        ]
        kinds = sorted({stem.rpartition('_')[0] for stem in every})
        labels = self._set_classes(kinds)
        found = []
        for stem in stems:
            kind = stem.rpartition('_')[0]
            if kind in labels:
                path = self.folder / kind / f'{stem}.txt'
                found.append(dict(path=str(path), gt_label=labels[kind]))
        return found

    def _find_folders(self) -> list[dict]:
        kinds = sorted(
            path.name
            for path in self.folder.iterdir()
            if any((path / split).is_dir() for split in self.SPLITS)
            and not path.name.startswith('.')
        )
        found, other = [], []
        for kind, label in self._set_classes(kinds).items():
            folder = self.folder / kind / self.split
            paths = sorted(p for p in folder.glob('*') if p.suffix in SUFFIXES)
            found += [dict(path=str(p), gt_label=label) for p in paths]
            if not paths and any(folder.glob('*')):
                other.append(folder)
        if found and other:
            raise UserError(
                f'the folder {other[0]} has files, but no clouds '
                f'({", ".join(SUFFIXES)}): convert or remove them'
            )
        return found
