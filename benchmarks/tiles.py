"""Segmentors in exact tiles, beside one run and mmseg's sliding windows.

    python -m benchmarks.tiles exact     # differences to one run
    python -m benchmarks.tiles cost      # time and memory by the image's size

Nets of mmea's configs with random weights whose statistics matter, images
rendered here. Each row is of a process of its own, appended to exact.jsonl or
cost.jsonl in ``--out`` when it has ended, and README.md and cost.png are
made anew; the same command goes on with what is missing. ``cost`` runs the
light net, one thread; ``whole`` and ``slide`` as far as ``--limit`` GiB of
memory go by what the size before has taken.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from mmengine.config import Config

from benchmarks.tile_cases import NETS, make_image, make_net, prepare
from mmea.compare.report import markdown, save_figure
from mmea.files import write_text
from mmea.inference.tiles import find_halo, segment_in_tiles, tile_logits
from mmea.models.padding_mask import note_sizes
from mmea.models.segmentors.tile_probe import encode_decode

OUT = Path(__file__).resolve().parent / 'results/tiles'
LIGHT = 'EA-FPN, MobileNetV2'
SIZES = ((1024, 1280), (965, 1213))
HALOS = ('auto', 128)
#: Pixels of a tile; the last net is slow.
CORES = {'EANet, R-50-d8': 640}
SIDES = (512, 1024, 2048, 4096, 8192, 20000)
#: mmseg's usual windows of nets trained at 512 x 512.
SLIDE = dict(mode='slide', crop_size=(512, 512), stride=(341, 341))


@torch.no_grad()
def compare(net: str, size: list, halo: str | int) -> dict:
    """Compare the logits of tiles with those of one run."""
    model = make_net(net)
    image = make_image(*size)
    x, (height, width) = prepare(model, image)
    note_sizes(x, [(height, width)])
    whole = encode_decode(model, x)[0, :, :height, :width]
    largest, differ = 0.0, 0
    for rows, columns, logits in tile_logits(
        model, image, core=CORES.get(net, 512), halo=halo
    ):
        want = whole[:, rows, columns]
        largest = max(largest, (logits - want).abs().max().item())
        differ += (logits.argmax(0) != want.argmax(0)).sum().item()
    return dict(
        found_halo=find_halo(model),
        difference=largest / whole.abs().max().item(),
        pixels=differ / (height * width),
    )


@torch.no_grad()
def measure(mode: str, side: int) -> dict:
    """Measure a run; of windows also how many classes are others."""
    torch.set_num_threads(1)
    model = make_net(LIGHT)
    with tempfile.TemporaryDirectory() as folder:
        image = make_image(side, side, f'{folder}/image.npy')
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        if mode.startswith('tiles'):
            find_halo(model)
            core = int(mode.split()[1])
            shown = time.time()

            def show(done: int, total: int) -> None:
                nonlocal shown
                if time.time() - shown > 60:
                    shown = time.time()
                    print(f'{done} of {total}', file=sys.stderr, flush=True)

            out = f'{folder}/classes.npy'
            segment_in_tiles(model, image, core=core, out=out, on_tile=show)
        else:
            x, size = prepare(model, image)
            note_sizes(x, [size])
            meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
            model.test_cfg = Config(
                dict(SLIDE) if mode == 'slide' else dict(mode='whole')
            )
            # Its windows change what it is told.
            classes = model.inference(x, [dict(meta)]).argmax(1)[0]
        spent = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = dict(seconds=round(spent, 2), before=base, peak=peak)
        if mode == 'slide' and side <= 3072:
            classes = classes.numpy().copy()
            model.test_cfg = Config(dict(mode='whole'))
            note_sizes(x, [size])
            whole = model.inference(x, [meta]).argmax(1)[0].numpy()
            row['others'] = round(float((classes != whole).mean()), 5)
    return row


def run_apart(kind: str, case: list) -> dict:
    """Run a case in a process of its own."""
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.tiles', 'one', kind]
        + [json.dumps(case)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def read(path: Path) -> list[dict]:
    text = path.read_text() if path.is_file() else ''
    return [json.loads(line) for line in text.splitlines()]


def work_off(kind: str, cases: list, args: argparse.Namespace) -> None:
    path = args.out / f'{kind}.jsonl'
    for case in cases:
        rows = read(path)
        if any(row['case'] == case for row in rows):
            continue
        if kind == 'cost' and not case[0].startswith('tiles'):
            before = [r for r in rows if r['case'][0] == case[0]]
            if before and before[-1]['case'][1] < case[1]:
                last = before[-1]
                grown = (case[1] / last['case'][1]) ** 2
                need = (last['peak'] - last['before']) * grown / 2**20
                if need > args.limit:
                    print(case, f'would take {need:.0f} GiB: left out')
                    continue
        print(case, flush=True)
        row = dict(case=case, **run_apart(kind, case))
        print(row, flush=True)
        with path.open('a') as file:
            file.write(json.dumps(row) + '\n')
    report(args.out)


def report(out: Path) -> None:
    """Write README.md and cost.png of what there is."""
    lines = ['# Exact tiles', '']
    exact = read(out / 'exact.jsonl')
    if exact:
        lines += [
            'Logits in tiles of 512 pixels (EANet 640) against one run: '
            'largest difference over the largest logit, and pixels of another '
            'class. '
            '`python -m benchmarks.tiles exact`.',
            '',
            *markdown(
                ['net', 'image', 'halo', 'difference', 'other classes'],
                [
                    [
                        r['case'][0],
                        ' x '.join(map(str, r['case'][1])),
                        f'auto, {r["found_halo"]}'
                        if r['case'][2] == 'auto'
                        else str(r['case'][2]),
                        f'{r["difference"]:.1e}',
                        f'{r["pixels"]:.3%}',
                    ]
                    for r in exact
                ],
            ),
            '',
        ]
    cost = read(out / 'cost.jsonl')
    if cost:
        cells = [
            [
                r['case'][0],
                f'{r["case"][1]:,}',
                f'{r["seconds"]:,.0f}',
                f'{r["seconds"] / r["case"][1] ** 2 * 1e6:.2f}',
                f'{r["peak"] / 2**20:.2f}',
                f'{r["others"]:.2%}' if 'others' in r else '',
            ]
            for r in sorted(cost, key=lambda r: r['case'])
        ]
        lines += [
            f'{LIGHT}, 150 classes, square images, float32, one thread, CPU '
            'time; peak memory of the process, which begins at '
            f'{min(r["before"] for r in cost) / 2**20:.2f} GiB. '
            '`python -m benchmarks.tiles cost`.',
            '',
            *markdown(
                [
                    'mode',
                    'side',
                    'seconds',
                    's / megapixel',
                    'peak GiB',
                    'other classes than whole',
                ],  # fmt: skip
                cells,
            ),
            '',
            '![Time and memory over the number of pixels](cost.png)',
        ]
        plot(cost, out / 'cost.png')
    write_text(out / 'README.md', '\n'.join(lines))


def plot(rows: list[dict], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for mode in dict.fromkeys(row['case'][0] for row in rows):
        own = sorted(
            (r['case'][1] ** 2 / 1e6, r['seconds'], r['peak'] / 2**20)
            for r in rows
            if r['case'][0] == mode
        )
        pixels, seconds, peak = zip(*own)
        axes[0].plot(pixels, seconds, marker='o', label=mode)
        axes[1].plot(pixels, peak, marker='o', label=mode)
    for axis, unit in zip(axes, ('CPU time, s', 'peak memory, GiB')):
        axis.set(xscale='log', yscale='log', xlabel='megapixels', ylabel=unit)
        axis.grid(True, which='both', alpha=0.2)
    axes[0].legend()
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['exact', 'cost', 'report', 'one'])
    parser.add_argument('rest', nargs='*', help='of what is run apart')
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--sides', nargs='+', type=int, default=SIDES)
    parser.add_argument('--core', type=int, default=1024)
    parser.add_argument('--limit', type=float, default=12, help='GiB')
    args = parser.parse_args()
    if args.what == 'one':
        kind, case = args.rest[0], json.loads(args.rest[1])
        row = (compare if kind == 'exact' else measure)(*case)
        print(json.dumps(row))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == 'report':
        report(args.out)
        return
    if args.what == 'exact':
        cases = [
            [net, list(size), halo]
            for net in NETS
            for size in SIZES
            for halo in HALOS
        ]
    else:
        modes = 'whole', 'slide', f'tiles {args.core}'
        cases = [[mode, side] for side in args.sides for mode in modes]
    work_off(args.what, cases, args)


if __name__ == '__main__':
    main()
