"""Measure external attention against its rivals: python -m benchmarks.run

Every figure is the median over several processes of the median over several
turns, the contestants taking turns in each process; the spread is that of the
processes. Tables and plots go to a folder of --out.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import torch
from rich.progress import Progress

from mmea.profiling import MODES, Limits, profile_steps, time_steps

from . import blocks, detector_places, multihead, report

PARTS = ('blocks', 'segmentors', 'detector_places', 'multihead', 'networks')
# Whole networks take long and vary little.
NETWORK_PROCESSES = 3


def parse_args():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.run',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[32, 64, 128, 256],
        help='heights and widths of the map in tokens, ascending',
    )
    parser.add_argument(
        '--tokens',
        type=int,
        nargs='+',
        default=multihead.TOKENS,
        help='of multihead: numbers of tokens',
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=blocks.BLOCKS,
        default=list(blocks.BLOCKS),
        metavar='BLOCK',
        help=f'of the blocks: {", ".join(blocks.BLOCKS)}',
    )
    parser.add_argument(
        '--note', default='', help='what else the report should say'
    )
    parser.add_argument('--processes', type=int, default=5)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument(
        '--dtype',
        choices=['float32', 'bfloat16', 'float16'],
        default='float32',
    )
    parser.add_argument(
        '--limit',
        type=float,
        default=25,
        help='leave out what is expected to take longer than this many '
        'seconds a step, or more memory than there is',
    )
    parser.add_argument(
        '--out', type=Path, default=Path(__file__).parent / 'results'
    )
    parser.add_argument('--worker', type=int, help=argparse.SUPPRESS)
    # What the first process has measured, for the others to repeat.
    parser.add_argument('--plan', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_args()
    if args.worker is not None:
        work(args)
        return
    rows, error = [], None
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        plan, log = Path(folder, 'plan.json'), Path(folder, 'log')
        task = progress.add_task('starting', total=None)
        try:
            for worker in range(args.processes):
                for row in launch(args, worker, plan, log):
                    rows.append(row)
                    progress.update(
                        task,
                        completed=len(rows),
                        description=f'process {worker + 1} of '
                        f'{args.processes}: {row["part"]}, {row["size"]}, '
                        f'{row["mode"]}',
                    )
                if worker == 0:
                    plan.write_text(json.dumps(rows), encoding='utf-8')
                    progress.update(task, total=len(rows) * args.processes)
        except RuntimeError as failure:
            error = failure  # what was measured is not thrown away
    if error and not rows:
        raise SystemExit(str(error))
    where = report.write(merge(rows), describe(args), args.out)
    print(f'Tables and plots: {where}')
    if error:
        raise SystemExit(f'{error}\nThe tables hold what came before.')


def launch(args, worker: int, plan: Path, log: Path):
    """Run one process and yield its rows."""
    command = [sys.executable, '-m', 'benchmarks.run', *sys.argv[1:]]
    command += ['--worker', str(worker)]
    if worker:
        command += ['--plan', str(plan)]
    with open(log, 'w', encoding='utf-8') as errors:
        process = subprocess.Popen(
            command,
            env=dict(os.environ, OMP_NUM_THREADS=str(args.threads)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        for line in process.stdout:
            yield json.loads(line)
    if process.wait():
        raise RuntimeError(
            f'{log.read_text(encoding="utf-8")[-4000:]}\n'
            f'error: process {worker + 1} failed'
        )


def describe(args) -> dict[str, str]:
    """Describe the conditions, for the head of the report."""
    if args.device == 'cuda':
        machine = torch.cuda.get_device_name()
        driver = torch.version.cuda
    else:
        flags = Path('/proc/cpuinfo').read_text(encoding='utf-8')
        model = {
            line.split(':')[1].strip()
            for line in flags.splitlines()
            if line.startswith('model name')
        }
        machine = f'{", ".join(model)}, {os.cpu_count()} cores'
        driver = platform.platform()
    block = f'B = 1, C = {blocks.CHANNELS}, S = {blocks.SLOTS}'
    return {
        'command': shlex.join(
            ['python', '-m', 'benchmarks.run', *sys.argv[1:]]
        ),
        'machine': f'{machine} ({driver})',
        'device': args.device,
        'torch': torch.__version__,
        'dtype': args.dtype,
        'threads': str(args.threads),
        'processes': str(args.processes),
        **({'block': block} if 'blocks' in args.parts else {}),
        **({'note': args.note} if args.note else {}),
    }


def merge(rows: list[dict]) -> list[dict]:
    """One row for each thing measured, over all processes."""
    groups = {}
    for row in rows:
        key = tuple(row[k] for k in ('part', 'size', 'mode', 'member'))
        groups.setdefault(key, []).append(row)
    merged = []
    for group in groups.values():
        times = [row['seconds'] for row in group]
        # What does not vary was counted by the first process.
        row = dict(
            group[0],
            seconds=statistics.median(times),
            fastest=min(times),
            slowest=max(times),
            processes=len(times),
        )
        merged.append(row)
    return merged


def work(args):
    """Measure all in this process, print a row of JSON for each."""
    torch.set_num_threads(args.threads)
    for part in args.parts:
        if (
            part in ('segmentors', 'networks')
            and args.worker >= NETWORK_PROCESSES
        ):
            continue
        for row in work_part(part, args):
            print(json.dumps(dict(part=part, **row)), flush=True)


def work_part(part: str, args) -> Iterator[dict]:
    make_step, sizes, names = find_part(part, args)
    dtype = getattr(torch, args.dtype)
    plan = args.plan and json.loads(args.plan.read_text(encoding='utf-8'))
    options = dict(rounds=args.rounds, seconds=6)
    for mode in MODES:
        limits = Limits(args.limit, args.device)
        for size in sizes:
            if plan:
                allowed = [
                    row['member']
                    for row in plan
                    if (row['part'], row['size'], row['mode'])
                    == (part, size, mode)
                ]
            else:
                allowed = [n for n in names if limits.allow(n, size)]
            steps = {
                name: step
                for name in allowed
                if (step := make_step(name, size, mode, args.device, dtype))
            }
            if plan:
                times = time_steps(steps, args.device, **options)
                rows = ((n, dict(seconds=t)) for n, t in times.items())
            else:
                rows = profile_steps(steps, args.device, **options)
            for name, row in rows:
                if part == 'blocks' and not plan:
                    limits.note(name, size, row)
                yield dict(size=size, mode=mode, member=name, **row)


def find_part(part: str, args) -> tuple[Callable, Iterable, Iterable[str]]:
    """Return what makes a part's steps, its sizes and its contestants."""
    if part == 'blocks':
        return blocks.make_step, args.sizes, args.only
    if part == 'multihead':
        sizes = product(multihead.WIDTHS, args.tokens)
        sizes = [f'{width} x {tokens}' for width, tokens in sizes]
        return multihead.make_step, sizes, multihead.KINDS
    if part == 'networks':
        kinds = multihead.NETWORK_KINDS
        return multihead.make_network_step, multihead.NETWORKS, kinds
    if part == 'detector_places':
        places = detector_places
        return places.make_step, places.PLACES, places.KINDS
    from . import segmentors  # asks for mmseg

    return segmentors.make_step, segmentors.SEGMENTORS, segmentors.FORMS


if __name__ == '__main__':
    main()
