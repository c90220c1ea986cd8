"""Write the demo scenes in the layout of a real data set.

``python -m mmea.datasets.demo ade20k data/demo`` gives a folder that the
data set classes of mmseg read as if it were the real one: the same places,
file names and class ids.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image

from .scenes import check_at_least, check_size, render_scene, scene_classes

__all__ = ['CLASS_IDS', 'LAYOUTS', 'MANIFEST', 'write_demo']

MANIFEST = 'mmea_demo.json'
FORMAT = 1  # raise it when the same arguments give other files
# Validation scenes count from here, so they are never training scenes and
# stay the same whatever the number of those.
FIRST_VAL = 2**20
IGNORED = 255

# Ids in the annotation files. Cityscapes: the train ids.
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


def _save(array, path, *, palette=None, **kwargs):
    picture = Image.fromarray(array)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **kwargs)


def _translate(scene, layout, ids):
    """Scene labels to the ids of the data set: uint8 (H, W)."""
    table = [ids[name] for name in scene_classes(layout)]
    return np.array(table, np.uint8)[scene.labels]


# One writer per layout: write(root, split, number, scene), split 'train' or
# 'val', number from 0.


def _write_ade20k(root, split, number, scene):
    folder = dict(train='training', val='validation')[split]
    name = f'ADE_{split}_{number + 1:08d}'
    _save(scene.image, root / f'images/{folder}/{name}.jpg', quality=95)
    ids = _translate(scene, 'ade20k', CLASS_IDS['ade20k'])
    _save(ids, root / f'annotations/{folder}/{name}.png')


def _write_cityscapes(root, split, number, scene):
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


def _voc_palette():
    """Colours of Pascal VOC: the bits of an id, dealt to R, G and B."""
    ids = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return palette


def _write_voc(root, split, number, scene):
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
            ids[cv2.dilate(mask, None) > cv2.erode(mask, None)] = IGNORED
    _save(ids, root / f'SegmentationClass/{name}.png', palette=_voc_palette())
    folder = root / 'ImageSets/Segmentation'
    folder.mkdir(parents=True, exist_ok=True)
    for stem in lists:
        with open(folder / f'{stem}.txt', 'a') as file:
            file.write(f'{name}\n')


@dataclass(frozen=True)
class Layout:
    """How scenes become files.

    Attributes:
        write (callable): Takes root folder, split, number and scene.
        size (tuple[int]): Default (H, W) in pixels.
    """

    write: Callable
    size: tuple[int, int] = (128, 128)


LAYOUTS: dict[str, Layout] = dict(
    ade20k=Layout(_write_ade20k),
    cityscapes=Layout(_write_cityscapes, size=(128, 256)),
    voc=Layout(_write_voc),
)


def _files(root):
    """Checksums of what is below root: relative name -> CRC-32.

    A link has none: it is not ours, wherever it leads.
    """
    return {
        path.relative_to(root).as_posix(): None
        if path.is_symlink()
        else zlib.crc32(path.read_bytes())
        for path in sorted(root.rglob('*'))
        if path.is_symlink() or not path.is_dir()
    }


def _read_manifest(root):
    """(made, files) of the demo set in root; empty if there is none."""
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        return dict(manifest['made']), dict(manifest['files'])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def _is_done(root, made):
    """Whether root holds every file of the demo set ``made``."""
    found, files = _read_manifest(root)
    return found == made and all((root / name).is_file() for name in files)


def _check_ours(root):
    """Raise unless all files below root are as we wrote them."""
    if not root.is_dir():
        raise NotADirectoryError(
            f'out_dir={str(root)!r} is no folder; give another out_dir'
        )
    _, known = _read_manifest(root)
    for name, checksum in _files(root).items():
        ours = known and name == MANIFEST
        if not ours and (checksum is None or known.get(name) != checksum):
            raise FileExistsError(
                f'out_dir={str(root)!r} holds {name!r}, which is not from '
                'mmea or was changed since; nothing was touched. Give '
                'another out_dir, or move that folder away'
            )


def _render(root, made):
    """Write all files of a demo set below root, the manifest last."""
    layout = made['layout']
    tasks = [('train', i, i) for i in range(made['num_train'])]
    tasks += [('val', i, FIRST_VAL + i) for i in range(made['num_val'])]
    print(f'Rendering the {layout} demo scenes', flush=True)
    for split, number, index in track_iter_progress(tasks, file=sys.stdout):
        scene = render_scene(
            layout, index, size=made['size'], seed=made['seed']
        )
        LAYOUTS[layout].write(root, split, number, scene)
    manifest = dict(made=made, files=_files(root))
    (root / MANIFEST).write_text(json.dumps(manifest, indent=1))


def write_demo(
    layout, out_dir, *, num_train=240, num_val=60, size=None, seed=0
):
    """Write a demo data set, unless it is there already.

    The set appears under ``out_dir`` all at once, when it is complete. One
    made with the same arguments is left as it is, one made with other
    arguments is replaced. If the folder holds anything else, or a file that
    was changed since, nothing is touched and an error raised.

    In the VOC layout ``train.txt`` lists all training scenes, and
    ``aug.txt`` every second one once more, with ``SegmentationClassAug``.

    Args:
        layout (str): ``'ade20k'``, ``'cityscapes'`` or ``'voc'``.
        out_dir (str | Path): The data set's root, as in ``data_root``. Its
            parent must be writable.
        num_train (int): Training scenes, at least 1. Default: 240.
        num_val (int): Validation scenes, at least 1. Default: 60.
        size (tuple[int], optional): (H, W) in pixels, each at least 32.
            Default: (128, 128), for Cityscapes (128, 256).
        seed (int): At least 0. Default: 0.

    Returns:
        Path: ``out_dir``, absolute.

    Raises:
        ValueError: An argument is out of the range given above.
        FileExistsError: ``out_dir`` holds something else than a demo set
            as it was written.
        OSError: The files cannot be written.
    """
    if layout not in LAYOUTS:
        raise ValueError(
            f'layout must be one of {sorted(LAYOUTS)}, got {layout=}'
        )
    size = LAYOUTS[layout].size if size is None else size
    check_size(size)
    check_at_least(1, num_train=num_train, num_val=num_val)
    check_at_least(0, seed=seed)
    root = Path(out_dir).expanduser().resolve()
    made = dict(
        format=FORMAT,
        layout=layout,
        num_train=int(num_train),
        num_val=int(num_val),
        size=[int(side) for side in size],
        seed=int(seed),
    )
    if _is_done(root, made):
        return root
    if root.exists():
        _check_ours(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f'.{root.name}-', dir=root.parent
        ) as scratch:
            # Not the scratch folder itself, which only we may read.
            new = Path(scratch, 'new')
            new.mkdir()
            _render(new, made)
            if root.exists() and not _is_done(root, made):
                _check_ours(root)
                root.rename(Path(scratch, 'old'))
            new.rename(root)
    except OSError as error:
        if _is_done(root, made):
            return root  # another process was faster
        raise OSError(
            f'cannot write the demo set to out_dir={str(root)!r}: '
            f'{error}. Its parent folder must be '
            'writable'
        ) from error
    return root


def main(args=None):
    """Command line of :func:`write_demo`."""
    parser = argparse.ArgumentParser(
        prog='python -m mmea.datasets.demo',
        description='Write a small demo data set in a real layout.',
    )
    parser.add_argument('layout', choices=sorted(LAYOUTS))
    parser.add_argument('out_dir', help='root folder of the data set')
    parser.add_argument('--num-train', type=int, default=240)
    parser.add_argument('--num-val', type=int, default=60)
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='pixels; default: 128 128, cityscapes 128 256',
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(args)
    try:
        print(write_demo(**vars(args)))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
