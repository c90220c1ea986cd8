"""Test nets of a comparison on larger images.

    python -m benchmarks.larger_images work_dirs/my_comparison --scales 1 2 4

Of each run of `mmea compare` whose checkpoint is still there, the images of
the validation are enlarged (bilinear) and the logits brought back to the size
of the labels: a row of larger_images.csv in the folder for each run and scale,
with the metric and, on a GPU, the peak memory. What is there already is kept.

`--windows 3 3` cuts what the attention sees into so many rows and columns of
windows, which do not see each other: as many tokens in each as in training, if
the images are larger by as much. It writes larger_images_windows_3x3.csv. A
net without attention stays as it is.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

import mmea.models  # noqa: F401
from mmea.files import whole
from mmea.layers import AttentionBlock2d
from mmea.models.padding_mask import current_mask

FIELDS = ('member', 'seed', 'scale', 'mIoU', 'peak_memory')


def enlarge(cfg: Config, scale: float) -> None:
    """Resize the images of the validation, not their labels."""
    pipeline = cfg.val_dataloader.dataset.pipeline
    load = [step.type for step in pipeline].index('LoadImageFromFile')
    resize = dict(type='Resize', scale_factor=float(scale), keep_ratio=True)
    pipeline.insert(load + 1, resize)


def cut_attention(model: nn.Module, rows: int, columns: int) -> None:
    """Let each attention see the windows of its map one by one."""
    layers = [m for m in model.modules() if isinstance(m, AttentionBlock2d)]
    inner = {part for layer in layers for part in [*layer.modules()][1:]}
    for layer in layers:
        if layer not in inner:
            layer.forward = _by_windows(layer.forward, rows, columns)


def _by_windows(
    forward: Callable[[Tensor], Tensor], rows: int, columns: int
) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        if current_mask(x) is not None:
            raise ValueError(
                '--windows does not know padding: test images one by one'
            )
        strips = [
            torch.cat(
                [forward(part) for part in strip.tensor_split(columns, 3)], 3
            )
            for strip in x.tensor_split(rows, 2)
        ]
        return torch.cat(strips, 2)

    return run


def evaluate(
    run: Path, scale: float, windows: tuple[int, int] | None = None
) -> dict:
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
    runner = Runner.from_cfg(cfg)
    if windows:
        cut_attention(runner.model, *windows)
    metrics = runner.val()
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
    parser.add_argument(
        '--windows',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        help='of the map that an attention sees (default: the whole)',
    )
    args = parser.parse_args(argv)
    if not all(0 < scale < 100 for scale in args.scales):
        parser.error(f'--scales must be above 0, got {args.scales}')
    if args.windows and min(args.windows) < 1:
        parser.error(f'--windows must be above 0, got {args.windows}')
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
    name = 'larger_images'
    if args.windows:
        name += '_windows_{}x{}'.format(*args.windows)
    path = args.folder / f'{name}.csv'
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
            rows.append(
                dict(zip(FIELDS, key), **evaluate(run, scale, args.windows))
            )
            with whole(path) as part, part.open('w', newline='') as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows)
            print(rows[-1], flush=True)


if __name__ == '__main__':
    main()
