"""How clouds of solids become files: the layouts of data sets of clouds."""

import json
from pathlib import Path

import numpy as np

from .solids import PARTS, Cloud, render_solid

__all__ = [
    'MODELNET',
    'MODELNET_KINDS',
    'SHAPENET',
    'finish_modelnet',
    'finish_shapenet',
    'render_modelnet',
    'render_shapenet',
    'write_modelnet',
    'write_shapenet',
]

#: The 40 classes of ModelNet40, in their order.
MODELNET = tuple(
    'airplane bathtub bed bench bookshelf bottle bowl car chair cone cup '
    'curtain desk door dresser flower_pot glass_box guitar keyboard lamp '
    'laptop mantel monitor night_stand person piano plant radio range_hood '
    'sink sofa stairs stool table tent toilet tv_stand vase wardrobe '
    'xbox'.split()
)
#: Its classes that are rendered, and the solids that stand for them.
MODELNET_KINDS = dict(
    chair='chair',
    cup='mug',
    lamp='lamp',
    laptop='laptop',
    stool='stool',
    table='table',
)
#: Of the solids in ShapeNet-part: class, folder, the label of the first part.
SHAPENET = dict(
    chair=('Chair', '03001627', 12),
    lamp=('Lamp', '03636649', 24),
    laptop=('Laptop', '03642806', 28),
    mug=('Mug', '03797390', 36),
    rocket=('Rocket', '04099429', 41),
    table=('Table', '04379243', 47),
)
# From z upwards, as ModelNet has it, to y upwards.
Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])


def render_modelnet(index: int, *, size: tuple[int], seed: int) -> Cloud:
    """Render a cloud, every class in its turn."""
    kinds = list(MODELNET_KINDS.values())
    return render_solid(kinds[index % len(kinds)], index, size[0], seed)


def write_modelnet(root: Path, split: str, number: int, cloud: Cloud) -> None:
    """Write CLASS/SPLIT/CLASS_0001.txt: x y z and the normal in a row."""
    (name,) = (n for n, k in MODELNET_KINDS.items() if k == cloud.kind)
    folder = dict(train='train', val='test')[split]
    path = root / name / folder / f'{name}_{number + 1:04d}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, np.hstack([cloud.points, cloud.normals]), '%.5f')


def finish_modelnet(root: Path, records: dict[str, list]) -> None:
    """Make the folders of the other classes, which the labels count."""
    for name in MODELNET:
        (root / name / 'train').mkdir(parents=True, exist_ok=True)


def render_shapenet(index: int, *, size: tuple[int], seed: int) -> Cloud:
    """Render a cloud, every class in its turn."""
    kinds = list(SHAPENET)
    return render_solid(kinds[index % len(kinds)], index, size[0], seed)


def write_shapenet(root: Path, split: str, number: int, cloud: Cloud) -> str:
    """Write FOLDER/ID.txt: x y z, normal, part; return its name in a list."""
    _, folder, first = SHAPENET[cloud.kind]
    name = f'{folder}/{split}_{number + 1:04d}'
    path = root / f'{name}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = cloud.points @ Y_UP.T, cloud.normals @ Y_UP.T
    parts = first + cloud.parts[:, None]
    np.savetxt(path, np.hstack([*columns, parts]), ['%.5f'] * 6 + ['%.1f'])
    return f'shape_data/{name}'


def finish_shapenet(root: Path, records: dict[str, list]) -> None:
    """Write the lists of the splits, and what the parts are called."""
    folder = root / 'train_test_split'
    folder.mkdir()
    lists = dict(train=records['train'], val=[], test=records['val'])
    for split, names in lists.items():
        path = folder / f'shuffled_{split}_file_list.json'
        path.write_text(json.dumps(names))
    parts = {name: PARTS[kind] for kind, (name, _, _) in SHAPENET.items()}
    (root / 'part_names.json').write_text(json.dumps(parts))
