"""Small images with a class, as a GAN takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmea.errors import UserError
from mmea.layers._checks import check_flags, check_positive
from mmea.registry import DATASETS

from .cifar10_batches import CLASSES, read_batch

__all__ = ['CIFAR10', 'ClassFolders']

SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.webp'}


class _Images(Dataset):
    """Labelled square images; a subclass finds them.

    An item is ``inputs``, a uint8 tensor (3, S, S), RGB, and
    ``data_samples`` with ``gt_label`` (1).
    """

    def __init__(self, flip: bool) -> None:
        check_flags(flip=flip)
        self.flip = flip
        self.labels: list[int] = []
        self.metainfo: dict[str, Any] = {}

    def load(self, i: int) -> tuple[np.ndarray, dict]:
        """Read one image, (S, S, 3), RGB, and what tells where it is from."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict:
        image, meta = self.load(i)
        if self.flip and torch.rand(()) < 0.5:
            image = image[:, ::-1]
        sample = BaseDataElement(gt_label=torch.tensor([self.labels[i]]))
        sample.set_metainfo(dict(meta, sample_idx=i))
        inputs = torch.from_numpy(image.transpose(2, 0, 1).copy())
        return dict(inputs=inputs, data_samples=sample)


@DATASETS.register_module()
class ClassFolders(_Images):
    """Images in one folder for each class: ``data_root/CLASS/NAME.png``.

    Classes are the folders in the order of their names; in each, images may
    be in folders of any depth.

    Args:
        data_root (str): Holds the folders.
        img_size (int): S, height and width.
        resize (bool): Cut the largest square out of the middle of an image
            of another size, and scale it. Default: False, an error.
        flip (bool): Mirror half of the images, by chance. Default: False.
        split (str): Folder in ``data_root`` that holds the folders of the
            classes. Default: '', ``data_root`` itself.
        classes (Sequence[str] | None): Names of the classes, in the order of
            their folders. Default: None, those of the folders.
        per_class (int | None): Take so many images of each class, spread
            over it, at most. Default: None, all.

    Raises:
        UserError: There are no class folders, not as many as ``classes``, one
            has no images, or an image is damaged or, without ``resize``, of
            another size.
    """

    def __init__(
        self,
        data_root: str,
        img_size: int,
        *,
        resize: bool = False,
        flip: bool = False,
        split: str = '',
        classes: Sequence[str] | None = None,
        per_class: int | None = None,
    ) -> None:
        super().__init__(flip)
        check_positive(img_size=img_size)
        if per_class is not None:
            check_positive(per_class=per_class)
        check_flags(resize=resize)
        self.img_size = img_size
        self.resize = resize
        root = Path(data_root, split)
        folders = sorted(p for p in _list(root) if p.is_dir())
        folders = [p for p in folders if not p.name.startswith('.')]
        if not folders:
            raise UserError(
                f'data_root={root} has no folders, one for each class '
                'is wanted: data_root/CLASS/NAME.png'
            )
        names = tuple(classes or (folder.name for folder in folders))
        if len(names) != len(folders):
            raise UserError(
                f'data_root={root} has {len(folders)} folders, one for each '
                f'class, and classes has {len(names)} names'
            )
        self.paths: list[Path] = []
        for label, folder in enumerate(folders):
            found = sorted(
                p
                for p in folder.rglob('*')
                if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if not found:
                raise UserError(
                    f'the class folder {folder} has no images '
                    f'({", ".join(sorted(SUFFIXES))}); fill or remove it'
                )
            number = min(per_class or len(found), len(found))
            found = [found[i * len(found) // number] for i in range(number)]
            self.paths += found
            self.labels += [label] * len(found)
        self.metainfo = dict(classes=names)

    def load(self, i: int) -> tuple[np.ndarray, dict]:
        path = self.paths[i]
        image = None
        if data := path.read_bytes():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
        if image is None:
            raise UserError(f'{path} is no image; remove or replace it')
        image = image[..., ::-1]  # RGB
        height, width = image.shape[:2]
        if (height, width) != (self.img_size, self.img_size):
            if not self.resize:
                raise UserError(
                    f'{path} has {height} x {width} pixels, not img_size='
                    f'{self.img_size}; set resize=True, which cuts and scales'
                )
            image = _fit(image, self.img_size)
        return image, dict(img_path=str(path))


@DATASETS.register_module()
class CIFAR10(_Images):
    """CIFAR-10 from its original files, ``data_batch_1`` and so on.

    Those of the Python version, which are pickles; nothing but numbers is
    read from them, and no code is executed.

    Args:
        data_root (str): Holds the files, as ``cifar-10-batches-py``.
        split (str): 'train' or 'test'. Default: 'train'.
        flip (bool): Mirror half of the images, by chance. Default: False.

    Raises:
        UserError: A file is missing, or not one of CIFAR-10.
    """

    img_size = 32

    def __init__(
        self, data_root: str, split: str = 'train', *, flip: bool = False
    ) -> None:
        super().__init__(flip)
        if split not in ('train', 'test'):
            raise ValueError(f'split must be train or test, got {split=}')
        names = ['test_batch']
        if split == 'train':
            names = [f'data_batch_{i}' for i in range(1, 6)]
        parts = [read_batch(Path(data_root) / name) for name in names]
        self.images = np.concatenate([images for images, _ in parts])
        self.labels = [label for _, labels in parts for label in labels]
        self.metainfo = dict(classes=CLASSES)

    def load(self, i: int) -> tuple[np.ndarray, dict]:
        return self.images[i], {}


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f'data_root: cannot read the folder {folder}: {error.strerror}'
        ) from error


def _fit(image: np.ndarray, size: int) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    image = image[top : top + side, left : left + side]
    kind = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(
        np.ascontiguousarray(image), (size, size), None, 0, 0, kind
    )
