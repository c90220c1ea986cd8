"""What the allocator's settings do to a training step on a CPU.

    python -m benchmarks.allocator

glibc gives a large block back to the system when it is freed and takes a new
one, page by page, when it is asked again: a training step pays for that at
every feature map. Each setting is an environment of processes of its own,
which take turns.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

import torch
from rich.progress import track

from mmea.compare.report import markdown
from mmea.profiling import time_steps

from . import blocks, segmentors

KEEP = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_=str(2**40))
HUGE = dict(THP_MEM_ALLOC_ENABLE='1')
SETTINGS = {
    'as it is': {},
    'glibc keeps what is freed': KEEP,
    'huge pages': HUGE,
    'both': KEEP | HUGE,
}
OURS, PUBLISHED = 'external, low-rank (default)', 'external, published form'
SIZE = 128  # of the map of a block alone

STEPS = {
    **{
        f'{name}, {mode}': (segmentors, (OURS, name, mode))
        for name in ('EA-FPN R-50', 'EA-FPN MobileNetV2')
        for mode in ('training', 'inference')
    },
    **{
        f'block, {form}, {mode}': (blocks, (form, SIZE, mode))
        for form in (OURS, PUBLISHED)
        for mode in ('training', 'inference')
    },
}


def parse_args():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.allocator',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--steps', nargs='+', choices=STEPS, default=[*STEPS])
    parser.add_argument('--processes', type=int, default=5)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--worker', action='store_true', help=argparse.SUPPRESS
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.worker:
        work(args.steps[0], args.rounds)
        return
    turns = [
        (step, setting)
        for step in args.steps
        for _ in range(args.processes)
        for setting in SETTINGS
    ]
    found = {}
    for step, setting in track(turns, 'measuring'):
        found.setdefault((step, setting), []).append(
            launch(step, SETTINGS[setting], args.rounds)
        )
    print('\n'.join(markdown(*table(found))))


def launch(step: str, setting: dict[str, str], rounds: int) -> dict:
    """Measure a step in a process of its own."""
    command = [sys.executable, '-m', 'benchmarks.allocator', '--worker']
    command += ['--steps', step, '--rounds', str(rounds)]
    known = KEEP | HUGE
    inherited = {k: v for k, v in os.environ.items() if k not in known}
    done = subprocess.run(
        command,
        env=inherited | dict(OMP_NUM_THREADS='1') | setting,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def work(name: str, rounds: int) -> None:
    module, (kind, size, mode) = STEPS[name]
    torch.set_num_threads(1)
    step = module.make_step(kind, size, mode, 'cpu', torch.float32)
    seconds = time_steps({name: step}, rounds=rounds)[name]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(seconds=seconds, peak=peak)))


def table(found: dict) -> tuple[list[str], list[list[str]]]:
    """Compare the settings: the median process, the fastest and slowest."""
    header = ['step', 'setting', 's (fastest to slowest)', 'times faster']
    lines = []
    for (step, setting), rows in found.items():
        times = sorted(row['seconds'] for row in rows)
        middle = statistics.median(times)
        plain = statistics.median(
            row['seconds'] for row in found[step, 'as it is']
        )
        lines.append(
            [
                step,
                setting,
                f'{middle:.3g} ({times[0]:.3g} to {times[-1]:.3g})',
                f'{plain / middle:.2f}',
                f'{max(row["peak"] for row in rows) / 2**30:.2f}',
            ]
        )
    return [*header, 'peak memory, GiB'], lines


if __name__ == '__main__':
    main()
