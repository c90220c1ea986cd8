"""The benchmark runs, on small maps, and writes what it should."""

import argparse
import contextlib
import csv
import io
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import blocks, run, surroundings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Call it with options; what it measured, and the folder."""

    def call(*options):
        command = ['run', *map(str, options), '--rounds', '1']
        monkeypatch.setattr(sys, 'argv', [*command, '--out', str(tmp_path)])
        run.main()
        cuda = torch.cuda.is_available()
        folder = 'cuda-float32' if cuda else 'cpu-float32-1-thread'
        with open(tmp_path / folder / 'table.csv', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        found = {(r['name'], r['size'], r['mode']): r for r in rows}
        return found, tmp_path / folder

    return call


@pytest.fixture
def at_once(monkeypatch):
    """Its processes run in this one; what surrounds a block is short."""

    def launch(args, worker, plan, _):
        args = argparse.Namespace(
            **dict(vars(args), worker=worker, plan=plan if worker else None)
        )
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run.work(args)
        return map(json.loads, out.getvalue().splitlines())

    monkeypatch.setattr(run, 'launch', launch)
    short = {
        name: (pair, (*shape[:2], 50), weights)
        for name, (pair, shape, weights) in surroundings.SURROUNDINGS.items()
    }
    monkeypatch.setattr(surroundings, 'SURROUNDINGS', short)


def test_command(command, at_once):
    found, folder = command(
        *('--sizes', 4, 16, '--tokens', 16, '--processes', 2),
        *('--parts', 'blocks', 'surroundings', 'multihead'),
        *('--only', *(set(blocks.BLOCKS) - {blocks.COMPILED})),
    )
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


@pytest.mark.slow
def test_processes_and_a_compiled_block(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    both = (blocks.PUBLISHED, blocks.COMPILED)
    options = ('--parts', 'blocks', '--sizes', 4, '--processes', 1)
    found, _ = command(*options, '--only', *both)
    assert {name for name, *_ in found} == set(both)


def test_every_surrounding_is_exact():
    for name in surroundings.SURROUNDINGS:
        pair = surroundings.Surrounding(name, 'inference', dtype=torch.float64)
        pair.x = pair.x[..., :50]
        torch.testing.assert_close(pair.run(True), pair.run(False))
