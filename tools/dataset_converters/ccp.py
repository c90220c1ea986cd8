"""Bring Clothing Co-Parsing into the form that configs/ccp reads.

    python tools/dataset_converters/ccp.py clothing-co-parsing --out data/ccp

docs/data.md has its source, the split and the twelve classes. Needs scipy.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from mmengine.utils import track_progress
from PIL import Image

from mmea.cli.common import command
from mmea.errors import UserError

# What each class is made of; the rest, and what is unknown, is ignored.
CLASSES = (
    'null',
    'skin',
    'hair',
    'boots clogs flats heels loafers pumps sandals shoes sneakers wedges',
    'bag purse wallet',
    'pants jeans leggings tights stockings',
    'shorts',
    'skirt',
    'dress romper bodysuit',
    'blouse shirt sweater t-shirt top sweatshirt hoodie jumper vest',
    'coat jacket blazer cardigan cape suit',
    'accessories belt bracelet earrings glasses gloves hat necklace ring '
    'scarf socks sunglasses tie watch',
)
IGNORED = 255
NUM_TEST, NUM_VAL = 204, 100


def split(ids: list[str]) -> dict[str, list[str]]:
    """Share ids out by their MD5, for there is no official split."""

    def digest(name: str) -> str:
        return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()

    ids = sorted(ids, key=digest)
    return dict(
        test=sorted(ids[:NUM_TEST]),
        val=sorted(ids[NUM_TEST : NUM_TEST + NUM_VAL]),
        train=sorted(ids[NUM_TEST + NUM_VAL :]),
    )


def make_table(labels: list[str]) -> np.ndarray:
    """Return the class of each of 256 ids; ``labels`` are their names."""
    table = np.full(256, IGNORED, np.uint8)
    for i, names in enumerate(CLASSES):
        for name in names.split():
            if name not in labels:
                raise UserError(f'label_list.mat has no label {name!r}')
            table[labels.index(name)] = i
    return table


def read(path: Path) -> np.ndarray:
    """Read the one variable of a file of MATLAB."""
    from scipy.io import loadmat

    values = [v for k, v in loadmat(path).items() if not k.startswith('__')]
    if len(values) != 1:
        raise UserError(f'{path} has {len(values)} variables, expected one')
    return values[0]


def convert(source: Path, out: Path) -> None:
    folder = source / 'annotations/pixel-level'
    ids = [path.stem for path in folder.glob('*.mat')]
    if len(ids) <= NUM_TEST + NUM_VAL:
        raise UserError(
            f'{folder} holds {len(ids)} *.mat, expected the 1004 of '
            'github.com/bearpaw/clothing-co-parsing'
        )
    names = np.ravel(read(source / 'label_list.mat'))
    table = make_table([str(np.squeeze(name)) for name in names])
    tasks = []
    for part, own in split(ids).items():
        for kind in ('img_dir', 'ann_dir12'):
            (out / kind / part).mkdir(parents=True, exist_ok=True)
        (out / f'{part}.txt').write_text('\n'.join(own) + '\n')
        tasks += [(part, name) for name in own]

    def work(task: tuple[str, str]) -> None:
        part, name = task
        image = Image.open(source / 'photos' / f'{name}.jpg').convert('RGB')
        label = Image.fromarray(table[read(folder / f'{name}.mat')])
        if image.size != label.size:
            raise UserError(
                f'{name}: the photograph is of {image.size}, its label of '
                f'{label.size}'
            )
        half = image.width // 2, image.height // 2
        image = image.resize(half, Image.Resampling.LANCZOS)
        image.save(out / 'img_dir' / part / f'{name}.jpg', quality=90)
        label = label.resize(half, Image.Resampling.NEAREST)
        label.save(out / 'ann_dir12' / part / f'{name}.png')

    track_progress(work, tasks)


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'source', type=Path, help='the unpacked repository of the data'
    )
    parser.add_argument('--out', type=Path, default=Path('data/ccp'))
    args = parser.parse_args(argv)
    try:
        convert(args.source, args.out)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    main()
