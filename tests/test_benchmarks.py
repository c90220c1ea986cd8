"""The benchmark runs, on small maps, and writes what it should."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_command(tmp_path):
    subprocess.run(
        [
            sys.executable,
            *('-m', 'benchmarks.run', '--sizes', '8', '16'),
            *('--processes', '2', '--rounds', '1'),
            *('--parts', 'blocks', 'surroundings', 'multihead'),
            *('--tokens', '16', '--out', str(tmp_path)),
        ],
        cwd=ROOT,
        check=True,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.DEVNULL,
    )
    folder = tmp_path / 'cpu-float32-1-thread'
    if torch.cuda.is_available():
        folder = tmp_path / 'cuda-float32'
    with open(folder / 'table.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    found = {(r['name'], r['size'], r['mode']): r for r in rows}
    ours = found['external, low-rank (default)', '16', 'training']
    published = found['external, published form', '16', 'training']
    assert ours['processes'] == '2' and float(ours['seconds']) > 0
    assert float(ours['saved']) < float(published['saved'])
    assert found['external, published form', '16', 'inference']['macs'] == str(
        2 * (512 * 512 + 512 * 64) * 256
    )
    c, n = 256, 16
    attention = found['self-attention', f'{c} x {n}', 'inference']
    assert attention['macs'] == str(4 * n * c**2 + 2 * n**2 * c)
    for e in (1, 4):
        row = found[f'external, expansion {e}', f'{c} x {n}', 'inference']
        assert row['macs'] == str(2 * e * c * (c + 64) * n)
    text = (folder / 'README.md').read_text(encoding='utf-8')
    for name in (
        'non-local',
        'efficient attention',
        'exponent',
        'folded',
        '256 x 16',
    ):
        assert name in text
    assert (folder / 'blocks.png').stat().st_size > 10_000


def test_every_surrounding_is_exact():
    from benchmarks.surroundings import SURROUNDINGS, Surrounding

    for name in SURROUNDINGS:
        pair = Surrounding(name, 'inference', dtype=torch.float64)
        pair.x = pair.x[..., :50]
        torch.testing.assert_close(pair.run(True), pair.run(False))
