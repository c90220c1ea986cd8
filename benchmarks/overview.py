"""Draw the cost in the README from the table of a comparison.

    python -m benchmarks.overview

reads ``benchmarks/results/family/cost.csv`` and writes
``docs/images/cost.png``.
"""

import csv
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / 'benchmarks/results/family/cost.csv'
PICTURE = ROOT / 'docs/images/cost.png'
# The rest is in the table beside it.
MEMBERS = (
    'SelfAttention2d',
    'NonLocal2d',
    'EfficientAttention2d',
    'ExternalAttention2d',
)


def main():
    with TABLE.open(encoding='utf-8') as file:
        rows = [r for r in csv.DictReader(file) if r['mode'] == 'training']
    figure = Figure((5, 3.4), layout='constrained')
    axis = figure.subplots()
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
    figure.savefig(PICTURE, dpi=110)


if __name__ == '__main__':
    main()
