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
from pathlib import Path

import torch
from rich.progress import Progress

from mmea.profiling import (
    count_macs,
    count_parameters,
    extrapolate,
    free_memory,
    peak_memory,
    saved_memory,
    time_steps,
)

from . import blocks, insertions, multihead, report, surroundings

PARTS = ('blocks', 'segmentors', 'surroundings', 'insertions', 'multihead')
MODES = ('inference', 'training')
# Whole networks take long and vary little.
SEGMENTOR_PROCESSES = 3


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
    """The conditions, for the head of the report."""
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
        key = tuple(row[k] for k in ('part', 'size', 'mode', 'name'))
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
    """One process: measure all, print a row of JSON for each."""
    torch.set_num_threads(args.threads)
    for part in args.parts:
        if part == 'segmentors' and args.worker >= SEGMENTOR_PROCESSES:
            continue
        for row in globals()[f'work_{part}'](args):
            print(json.dumps(dict(part=part, **row)), flush=True)


def work_blocks(args):
    dtype = getattr(torch, args.dtype)
    plan = args.plan and json.loads(args.plan.read_text(encoding='utf-8'))
    for mode in MODES:
        history = {}
        for size in args.sizes:
            if plan:
                names = [
                    row['name']
                    for row in plan
                    if (row['part'], row['size'], row['mode'])
                    == ('blocks', size, mode)
                ]
            else:
                names = [
                    name
                    for name in args.only
                    if blocks.ONLY.get(name, mode) == mode
                    and fits(history.setdefault(name, {}), size, args)
                ]
            runners = {
                name: blocks.Contestant(name, mode, size, args.device, dtype)
                for name in names
            }
            times = time_steps(
                {name: runner.step for name, runner in runners.items()},
                args.device,
                rounds=args.rounds,
                seconds=6,
            )
            for name, runner in runners.items():
                row = dict(
                    size=size, mode=mode, name=name, seconds=times[name]
                )
                if not plan:
                    row['memory'] = peak_memory(runner.step, args.device)
                    row.update(count(runner))
                    history[name][size] = row
                yield row


def fits(history: dict, size: int, args) -> bool:
    """Whether a step should stay in the limits of time and memory."""
    done = args.sizes[: args.sizes.index(size)]
    if not all(earlier in history for earlier in done):
        return False  # left out before
    limits = dict(seconds=args.limit, memory=0.8 * free_memory(args.device))
    return all(
        extrapolate({s: history[s][what] for s in done}, size) <= limit
        for what, limit in limits.items()
    )


def count(runner) -> dict:
    """What is the same in every process."""
    found = dict(parameters=count_parameters(runner.block))
    if runner.run is runner.block:
        # A compiled function is not seen through.
        found['macs'] = count_macs(runner.forward)
    if runner.mode == 'training':
        own = [runner.x, *runner.block.parameters()]
        saved = saved_memory(runner.forward, own)
        found['saved'] = saved / runner.x.untyped_storage().nbytes()
    return found


def work_segmentors(args):
    from . import segmentors

    dtype = getattr(torch, args.dtype)
    for name in segmentors.SEGMENTORS:
        for mode in MODES:
            runners = {
                form: segmentors.Segmentor(
                    name, form, mode, args.device, dtype
                )
                for form in segmentors.FORMS
            }
            times = time_steps(
                {form: runner.step for form, runner in runners.items()},
                args.device,
                rounds=min(args.rounds, 3),
                seconds=6,
            )
            for form, runner in runners.items():
                row = dict(
                    size=name, mode=mode, name=form, seconds=times[form]
                )
                if args.worker == 0:
                    row['memory'] = peak_memory(runner.step, args.device)
                    row['parameters'] = count_parameters(runner.model)
                    if mode == 'inference':
                        row['macs'] = count_macs(runner.step)
                yield row


def work_surroundings(args):
    for name in surroundings.SURROUNDINGS:
        exact = surroundings.Surrounding(name, 'inference', dtype=torch.double)
        torch.testing.assert_close(exact.run(False), exact.run(True))
        for mode in MODES:
            pair = surroundings.Surrounding(name, mode, args.device)
            steps = {
                'as it is': lambda pair=pair: pair.step(False),
                'folded': lambda pair=pair: pair.step(True),
            }
            times = time_steps(steps, args.device, rounds=3 * args.rounds)
            for form, step in steps.items():
                row = dict(
                    size=name, mode=mode, name=form, seconds=times[form]
                )
                if args.worker == 0:
                    row['macs'] = count_macs(step)
                yield row


def work_insertions(args):
    for place in insertions.PLACES:
        for mode in MODES:
            runners = {
                kind: insertions.Insertion(place, kind, mode, args.device)
                for kind in insertions.KINDS
                if (place, kind) not in insertions.TOO_LARGE
            }
            times = time_steps(
                {kind: runner.step for kind, runner in runners.items()},
                args.device,
                rounds=args.rounds,
                seconds=6,
            )
            for kind, runner in runners.items():
                row = dict(
                    size=place, mode=mode, name=kind, seconds=times[kind]
                )
                if args.worker == 0:
                    row['memory'] = peak_memory(runner.step, args.device)
                    row['parameters'] = count_parameters(runner.layers)
                    if mode == 'inference':
                        row['macs'] = count_macs(runner.step)
                yield row


def work_multihead(args):
    dtype = getattr(torch, args.dtype)
    for width in multihead.WIDTHS:
        for tokens in args.tokens:
            for mode in MODES:
                runners = {
                    kind: multihead.Contestant(
                        kind, width, tokens, mode, args.device, dtype
                    )
                    for kind in multihead.KINDS
                }
                times = time_steps(
                    {kind: runner.step for kind, runner in runners.items()},
                    args.device,
                    rounds=3 * args.rounds,
                    seconds=6,
                )
                for kind, runner in runners.items():
                    row = dict(
                        size=f'{width} x {tokens}',
                        mode=mode,
                        name=kind,
                        seconds=times[kind],
                    )
                    if args.worker == 0:
                        row['memory'] = peak_memory(runner.step, args.device)
                        row['parameters'] = count_parameters(runner.layer)
                        row['macs'] = count_macs(runner.step)
                    yield row


if __name__ == '__main__':
    main()
