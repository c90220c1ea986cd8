"""Test nets of a comparison on larger images.

    python -m benchmarks.larger_images work_dirs/my_comparison --scales 1 2 4

Of each run of `mmea compare` whose checkpoint is still there, the images of
the validation are enlarged (bilinear) and the logits brought back to the size
of the labels: a row of larger_images.csv in the folder for each run and scale,
with the metric and, on a GPU, the peak memory. What is there already is kept.
"""

import argparse
import csv
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmea.models  # noqa: F401
from mmea.files import whole

FIELDS = ('member', 'seed', 'scale', 'mIoU', 'peak_memory')


def enlarge(cfg: Config, scale: float) -> None:
    """Resize the images of the validation, not their labels."""
    pipeline = cfg.val_dataloader.dataset.pipeline
    load = [step.type for step in pipeline].index('LoadImageFromFile')
    resize = dict(type='Resize', scale_factor=float(scale), keep_ratio=True)
    pipeline.insert(load + 1, resize)


def evaluate(run: Path, scale: float) -> dict:
    cfg = Config.fromfile(run.parent / 'config.py')
    cfg.work_dir = str(run / f'scale-{scale:g}')
    cfg.load_from = str(checkpoint_of(run))
    cfg.log_level = 'ERROR'
    cfg.env_cfg.cudnn_benchmark = False
    # They are of the training.
    cfg.custom_hooks = []
    if scale != 1:
        enlarge(cfg, scale)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    metrics = Runner.from_cfg(cfg).val()
    memory = ''
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() >> 20
    return dict(mIoU=float(metrics['mIoU']), peak_memory=memory)


def checkpoint_of(run: Path) -> Path | None:
    found = (run / 'work').glob('iter_*.pth')
    return max(
        found, key=lambda path: int(path.stem.split('_')[1]), default=None
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.larger_images',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('folder', type=Path, help='--out of mmea compare')
    parser.add_argument(
        '--scales', type=float, nargs='+', default=[1, 2, 4], metavar='S'
    )
    parser.add_argument('--members', nargs='+', help='folders of runs')
    args = parser.parse_args(argv)
    if not all(0 < scale < 100 for scale in args.scales):
        parser.error(f'--scales must be above 0, got {args.scales}')
    runs = [
        run
        for run in sorted((args.folder / 'runs').glob('*/seed-*'))
        if (run / 'result.json').is_file() and checkpoint_of(run)
    ]
    members = {run.parent.name for run in runs}
    if not runs or not members.issuperset(args.members or ()):
        parser.error(
            f'{args.folder} has runs with a result and iter_*.pth of '
            f'{sorted(members)}, not of {args.members or "any member"}'
        )
    path = args.folder / 'larger_images.csv'
    rows = []
    if path.is_file():
        with path.open(newline='') as file:
            rows = list(csv.DictReader(file))
    done = {tuple(row[key] for key in FIELDS[:3]) for row in rows}
    for run in runs:
        member, seed = run.parent.name, run.name.removeprefix('seed-')
        for scale in args.scales:
            key = member, seed, f'{scale:g}'
            if key in done or member not in (args.members or members):
                continue
            rows.append(dict(zip(FIELDS, key), **evaluate(run, scale)))
            with whole(path) as part, part.open('w', newline='') as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows)
            print(rows[-1], flush=True)


if __name__ == '__main__':
    main()
