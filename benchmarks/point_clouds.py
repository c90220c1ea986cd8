"""EAT, PCT and the network without attention on real clouds, trained here.

    python -m benchmarks.point_clouds --source FOLDER

``FOLDER`` holds chair.npy.gz, monitor.npy.gz (ModelNet10's training split as
32^3 voxels) and geometric_shapes.zip (meshes of 40 classes). Cases:

* voxels: chairs and monitors, points in the voxels, every fifth held out; 1
  and 5 training clouds of each class, drawn by the seed;
* turned: the same, each cloud in an orientation of its own; 5, 20 and all;
* shapes: 40 classes, a mesh of each to train on and one to test.

Three members, three seeds: 54 runs of at most 5 minutes on one core. Each
appends a line to runs.jsonl in ``--out`` when it has ended, and README.md is
written anew; the same command goes on with what is missing.
"""

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import torch

from mmea.compare.accuracy import summarise
from mmea.compare.pairs import paired_difference
from mmea.compare.report import markdown
from mmea.files import write_text

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).parent / 'results/points'
#: Of each member the config's first word, and what is changed in it.
MEMBERS = dict(
    external=('eat', ()),
    self=('pct', ()),
    none=('pct', ('model.backbone.attention=None',)),
)
CASES = dict(
    voxels=('modelnet10-voxels', 'modelnet10_voxels', 2, (1, 5)),
    turned=('modelnet10-voxels', 'modelnet10_turned', 2, (5, 20, 'all')),
    shapes=('geometric-shapes', 'geometric_shapes/raw', 40, ('all',)),
)
SEEDS = (0, 1, 2)
#: Chairs are twice as many as monitors: the mean over the classes.
METRIC = 'accuracy/class'


def prepare(source, data):
    """Write the data sets below ``data``, unless they are there."""
    if not (data / 'geometric_shapes').is_dir():
        with zipfile.ZipFile(source / 'geometric_shapes.zip') as archive:
            archive.extractall(data / 'geometric_shapes')
    for kind, name in product(('chair', 'monitor'), ('voxels', 'turned')):
        root = data / f'modelnet10_{name}'
        if (root / kind).is_dir():
            continue
        with gzip.open(source / f'{kind}.npy.gz') as file:
            grids = np.load(file).squeeze(1) > 0
        with tempfile.TemporaryDirectory(dir=data) as scratch:
            new = Path(scratch, kind)
            for i, grid in enumerate(grids):
                if grid.any():  # the first one is empty
                    split = 'test' if i % 5 == 0 else 'train'
                    (new / split).mkdir(parents=True, exist_ok=True)
                    rng = np.random.default_rng(i)
                    cloud = draw(grid, rng)
                    if name == 'turned':
                        cloud = (cloud - cloud.mean(0)) @ rotation(rng)
                    np.save(new / split / f'{i:04d}.npy', cloud)
            root.mkdir(exist_ok=True)
            new.rename(root / kind)


def draw(grid, rng, number=1024):
    """Draw points evenly in the voxels of a grid, (number, 3)."""
    voxels = np.argwhere(grid)
    few = len(voxels) < number
    chosen = voxels[rng.choice(len(voxels), number, replace=few)]
    return (chosen + rng.uniform(-0.5, 0.5, chosen.shape)).astype(np.float32)


def rotation(rng):
    """Draw a rotation, evenly of all, (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    return (q * np.linalg.det(q)).astype(np.float32)


def options(case, member, clouds, seed, data):
    """Config and options of a run, as mmea train takes them."""
    name, folder, *_ = CASES[case]
    system, changes = MEMBERS[member]
    root = data / folder
    found = [
        *changes,
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
    ]
    if clouds != 'all':
        rng, first, indices = np.random.default_rng(seed), 0, []
        for kind in sorted(path for path in root.iterdir()):
            total = len(list((kind / 'train').iterdir()))
            own = first + rng.choice(total, clouds, replace=False)
            indices += sorted(own.tolist())
            first += total
        text = ','.join(map(str, indices))
        found.append(f'train_dataloader.dataset.indices=[{text}]')
    return f'pct/{system}_1xb16-500i_{name}-512.py', found


def train(case, member, clouds, seed, data):
    """Train in a process of its own; the row of the run."""
    config, changes = options(case, member, clouds, seed, data)
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(
            [sys.executable, '-m', 'mmea.train', config, '--work-dir', work]
            + ['--cfg-options', *changes],
            check=True,
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
        (file,) = Path(work).glob('*/vis_data/scalars.json')
        lines = map(json.loads, file.read_text().splitlines())
        metrics = [line for line in lines if METRIC in line][-1]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start
    return dict(
        case=case,
        clouds=clouds,
        member=member,
        seed=seed,
        **{key: metrics[key] for key in (METRIC, 'accuracy/overall')},
        cpu_seconds=round(spent),
        torch=torch.__version__,
    )


def report(rows):
    """Write what each member reached, and the difference to external."""
    lines = []
    for case, (_, _, classes, numbers) in CASES.items():
        for clouds in numbers:
            own = {member: {} for member in MEMBERS}
            for row in rows:
                if (row['case'], row['clouds']) == (case, clouds):
                    own[row['member']][row['seed']] = row[METRIC]
            if not any(own.values()):
                continue
            lines.append(
                [
                    f'{case}, {clouds}',
                    f'{100 / classes:.1f}',
                    *(
                        summarise([*values.values()])
                        for values in own.values()
                    ),
                    *(
                        str(paired_difference(own['external'], own[m]) or '-')
                        for m in ('self', 'none')
                    ),
                ]
            )
    header = ['clouds of a class', 'guess', *MEMBERS]
    header += ['external - self', 'external - none']
    spent = statistics.median(row['cpu_seconds'] for row in rows)
    return [
        '# Point clouds',
        '',
        'Mean accuracy of the classes, percent, mean ± sample standard '
        'deviation over the seeds, and differences seed by seed with 95 % '
        'confidence intervals. Configs: `configs/pct/*_1xb16-500i_*-512.py`. '
        f'Median CPU time of a run: {spent:.0f} s. Every run: runs.jsonl.',
        '',
        *markdown(header, lines),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--source', type=Path, required=True)
    parser.add_argument('--data', type=Path, default=ROOT / 'data')
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--runs', type=int, help='stop after so many')
    args = parser.parse_args()
    args.data = args.data.resolve()
    args.data.mkdir(parents=True, exist_ok=True)
    prepare(args.source, args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / 'runs.jsonl'
    text = file.read_text() if file.is_file() else ''
    rows = [json.loads(line) for line in text.splitlines()]
    done = {
        tuple(r[k] for k in ('case', 'clouds', 'member', 'seed')) for r in rows
    }
    # Seed by seed, so that members can be compared early.
    plan = [
        (case, clouds, member, seed)
        for seed, case in product(SEEDS, CASES)
        for clouds, member in product(CASES[case][3], MEMBERS)
    ]
    missing = [run for run in plan if run not in done][: args.runs]
    for i, (case, clouds, member, seed) in enumerate(missing, 1):
        print(
            f'{i}/{len(missing)}: {case} {clouds} {member} {seed}', flush=True
        )
        row = train(case, member, clouds, seed, args.data)
        rows.append(row)
        with file.open('a') as out:
            out.write(json.dumps(row) + '\n')
        write_text(args.out / 'README.md', '\n'.join(report(rows)))


if __name__ == '__main__':
    main()
