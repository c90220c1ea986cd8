"""Write the demo scenes in the layout of a real data set.

``python -m mmea.demo ade20k data/demo`` gives a folder that the
data set classes of mmseg, mmdet and mmpretrain read as if it were the real
one: the same places, file names and class ids.
"""

import json
import sys
import tempfile
import zlib
from functools import partial
from pathlib import Path

from mmengine.utils import track_iter_progress

from .render import FIRST_VAL, check_at_least, check_size, render_scene
from .writers import LAYOUTS

__all__ = ['MANIFEST', 'write_demo']

MANIFEST = 'mmea_demo.json'
FORMAT = 1  # raise it when the same arguments give other files


def _files(root: Path) -> dict[str, int | None]:
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


def _read_manifest(root: Path) -> tuple[dict, dict]:
    """(made, files) of the demo set in root; empty if there is none."""
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        return dict(manifest['made']), dict(manifest['files'])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def _is_done(root: Path, made: dict) -> bool:
    """Tell whether root holds every file of the demo set ``made``."""
    found, files = _read_manifest(root)
    return found == made and all((root / name).is_file() for name in files)


def _check_ours(root: Path) -> None:
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


def _render(root: Path, made: dict) -> None:
    """Write all files of a demo set below root, the manifest last."""
    layout = LAYOUTS[made['layout']]
    render = layout.render or partial(render_scene, made['layout'])
    records: dict[str, list] = dict(train=[], val=[])
    tasks = [('train', i, i) for i in range(made['num_train'])]
    tasks += [('val', i, FIRST_VAL + i) for i in range(made['num_val'])]
    print(f'Rendering the {made["layout"]} demo scenes', flush=True)
    for split, number, index in track_iter_progress(tasks, file=sys.stdout):
        scene = render(index, size=made['size'], seed=made['seed'])
        records[split].append(layout.write(root, split, number, scene))
    if layout.finish is not None:
        layout.finish(root, records)
    manifest = dict(made=made, files=_files(root))
    (root / MANIFEST).write_text(json.dumps(manifest, indent=1))


def write_demo(
    layout: str,
    out_dir: str | Path,
    *,
    num_train: int = 240,
    num_val: int = 60,
    size: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Path:
    """Write a demo data set, unless it is there already.

    The set appears under ``out_dir`` all at once, when it is complete. One
    made with the same arguments is left as it is, one made with other
    arguments is replaced. If the folder holds anything else, or a file that
    was changed since, nothing is touched and an error raised.

    In the VOC layout ``train.txt`` lists all training scenes, and
    ``aug.txt`` every second one once more, with ``SegmentationClassAug``. The
    COCO layout has boxes and polygons of COCO 2017's train and val split;
    objects of which fewer than 32 pixels are visible are left out. In the
    ImageNet layout each picture has one object, and lies in the folder of its
    class; ``meta/train.txt`` and ``meta/val.txt`` list the pictures with
    their places among the 1,000 classes, of which six occur. In Scene Flow's
    each scene is a pair of views and the exact disparity.

    Args:
        layout (str): ``'ade20k'``, ``'cityscapes'``, ``'coco'``,
            ``'imagenet'``, ``'sceneflow'`` or ``'voc'``.
        out_dir (str | Path): The data set's root, as in ``data_root``. Its
            parent must be writable.
        num_train (int): Training scenes, at least 1. Default: 240.
        num_val (int): Validation scenes, at least 1. Default: 60.
        size (tuple[int, ...] | None): (H, W) in pixels, each at least 32; of
            clouds (N,), the points. Default: None, (128, 128), for Cityscapes
            (128, 256), for Scene Flow (96, 160), for clouds (256,).
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
    check_size(size, len(LAYOUTS[layout].size))
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
