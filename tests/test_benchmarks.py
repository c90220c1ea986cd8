"""The benchmark runs, on small maps, and writes what it should."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import blocks, run, surroundings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Call it with options; the folder of the report."""

    def call(*options):
        command = ['run', *map(str, options), '--rounds', '1']
        monkeypatch.setattr(sys, 'argv', [*command, '--out', str(tmp_path)])
        run.main()
        if torch.cuda.is_available():
            return tmp_path / 'cuda-float32'
        return tmp_path / 'cpu-float32-1-thread'

    monkeypatch.chdir(ROOT)  # where its processes find it
    return call


def read(folder):
    with open(folder / 'table.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    return {(r['name'], r['size'], r['mode']): r for r in rows}


def test_command(command):
    options = ('--sizes', 4, 8, '--tokens', 16, '--processes', 2)
    parts = ('--parts', 'blocks', 'multihead')
    only = ('--only', *(set(blocks.BLOCKS) - {blocks.COMPILED}))
    folder = command(*options, *parts, *only)
    found = read(folder)
    ours = found['external, low-rank (default)', '8', 'training']
    published = found['external, published form', '8', 'training']
    assert ours['processes'] == '2' and float(ours['seconds']) > 0
    assert float(ours['saved']) < float(published['saved'])
    assert found['external, published form', '8', 'inference']['macs'] == str(
        2 * (512 * 512 + 512 * 64) * 64
    )
    c, n = 256, 16
    attention = found['self-attention', f'{c} x {n}', 'inference']
    assert attention['macs'] == str(4 * n * c**2 + 2 * n**2 * c)
    for e in (1, 4):
        row = found[f'external, expansion {e}', f'{c} x {n}', 'inference']
        assert row['macs'] == str(2 * e * c * (c + 64) * n)
    text = (folder / 'README.md').read_text(encoding='utf-8')
    for name in ('non-local', 'efficient attention', 'exponent', '256 x 16'):
        assert name in text
    assert (folder / 'blocks.png').stat().st_size > 10_000


def test_surroundings(command, monkeypatch):
    """In this process, on few tokens."""
    few = {
        name: (pair, (*shape[:2], 50), weights)
        for name, (pair, shape, weights) in surroundings.SURROUNDINGS.items()
    }
    monkeypatch.setattr(surroundings, 'SURROUNDINGS', few)

    def launch(args, *_):
        args.worker = 0
        for row in run.work_surroundings(args):
            yield dict(part='surroundings', **row)

    monkeypatch.setattr(run, 'launch', launch)
    folder = command('--parts', 'surroundings', '--processes', 1)
    found = read(folder)
    assert {name for name, *_ in found} == {'as it is', 'folded'}
    assert {size for _, size, _ in found} == set(few)
    assert 'folded' in (folder / 'README.md').read_text(encoding='utf-8')


@pytest.mark.slow
def test_compiled_block(command):
    both = (blocks.PUBLISHED, blocks.COMPILED)
    options = ('--parts', 'blocks', '--sizes', 4, '--processes', 1)
    found = read(command(*options, '--only', *both))
    assert {name for name, *_ in found} == set(both)


def test_every_surrounding_is_exact():
    for name in surroundings.SURROUNDINGS:
        pair = surroundings.Surrounding(name, 'inference', dtype=torch.float64)
        pair.x = pair.x[..., :50]
        torch.testing.assert_close(pair.run(True), pair.run(False))
