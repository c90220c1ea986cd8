"""Draw the pictures of the README from the tables of comparisons.

    python -m benchmarks.overview

writes ``docs/images/cost.png``, of ``benchmarks/results/family/cost.csv``, and
``docs/images/gains.png``, of the paired runs.
"""

import argparse
import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmea.compare.pairs import paired_difference

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/results'
PICTURES = ROOT / 'docs/images'
# Of the paired runs: a folder, its metric and how many points its unit has.
PAIRED = {
    'CCP, mIoU': ('ccp', 'mIoU', 1),
    'CamVid, mIoU,\nlight net': ('camvid-h200', 'mIoU', 1),
    'CamVid, mIoU,\nFPN of smp': ('peers', 'mIoU', 1),
    'CamVid, mIoU,\na drive left out': (
        'camvid-without-0006r0-h200',
        'mIoU',
        1,
    ),
    'NWPU boxes, AP,\non P3 to P6': ('nwpu-p3-p6', 'coco/bbox_mAP', 100),
    'NWPU boxes, AP,\non C4': ('nwpu-c4', 'coco/bbox_mAP', 100),
}
# The rest is in the table beside it.
MEMBERS = (
    'SelfAttention2d',
    'NonLocal2d',
    'EfficientAttention2d',
    'ExternalAttention2d',
)


def draw_costs(axis: Axes) -> None:
    with (RESULTS / 'family/cost.csv').open(encoding='utf-8') as file:
        rows = [r for r in csv.DictReader(file) if r['mode'] == 'training']
    for member in MEMBERS:
        own = [r for r in rows if r['member'] == member]
        axis.loglog(
            [int(r['size']) ** 2 for r in own],
            [float(r['seconds']) * 1e3 for r in own],
            'o-',
            label=member,
            linewidth=3 if member == 'ExternalAttention2d' else 1.2,
        )
    axis.set_xlabel('tokens (pixels of the map)')
    axis.set_ylabel('training step, ms')
    axis.grid(True, alpha=0.3)
    axis.legend(fontsize=8)


def read_metric(folder: str, name: str, scale: float) -> dict:
    """Return a metric of each member, by seed."""
    found: dict[str, dict[int, float]] = {}
    with (RESULTS / folder / 'accuracy.csv').open(encoding='utf-8') as file:
        for row in csv.DictReader(file):
            own = found.setdefault(row['member'], {})
            own[int(row['seed'])] = scale * float(row[name])
    return found


def draw_gains(axis: Axes) -> None:
    """Dots are seeds; the bar is the 95 % interval of their mean."""
    for row, options in enumerate(PAIRED.values()):
        found = read_metric(*options)
        ours = found['ExternalAttention2d']
        for base, shift, colour in (
            ('none', -0.12, 'tab:blue'),
            ('control', 0.12, 'tab:orange'),
        ):
            if base not in found:
                continue
            theirs = found[base]
            dots = [ours[s] - theirs[s] for s in ours if s in theirs]
            mean, half, _ = paired_difference(ours, theirs)
            at = row + shift
            axis.plot(dots, [at] * len(dots), 'o', color=colour, alpha=0.4)
            axis.errorbar(
                mean,
                at,
                xerr=half,
                fmt='|',
                color=colour,
                capsize=4,
                markersize=12,
                label=None if row else f'minus {base}',
            )
    axis.axvline(0, color='black', linewidth=0.8)
    axis.set_yticks(range(len(PAIRED)), list(PAIRED))
    axis.set_ylim(len(PAIRED) - 0.5, -0.5)
    axis.set_xlabel('points that external attention gains')
    axis.grid(True, axis='x', alpha=0.3)
    axis.legend(
        fontsize=8, ncols=2, loc='lower center', bbox_to_anchor=(0.5, 1)
    )


def main(argv: list[str] | None = None):
    argparse.ArgumentParser(
        prog='python -m benchmarks.overview',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    for name, draw in (('cost', draw_costs), ('gains', draw_gains)):
        figure = Figure((5, 3.4), layout='constrained')
        draw(figure.subplots())
        figure.savefig(PICTURES / f'{name}.png', dpi=110)


if __name__ == '__main__':
    main()
