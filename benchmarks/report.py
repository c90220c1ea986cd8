"""Write tables (Markdown, CSV) and plots of what was measured."""

from pathlib import Path

from mmea.compare.report import (
    amount,
    cost_tables,
    markdown,
    milliseconds,
    plot_costs,
    times_faster,
    write_csv,
)
from mmea.files import write_text

from . import blocks, multihead

#: Title, what differs from line to line, and whom the times are compared with.
TABLES = {
    'segmentors': (
        'Whole segmentors, one crop of 512 x 512',
        'segmentor',
        blocks.PUBLISHED,
    ),
    'detector_places': (
        'Attention alone at all maps of its place in a detector, one image '
        'of 800 x 1333',
        'place',
        blocks.PUBLISHED,
    ),
    'multihead': (
        'Multi-head, one sequence of tokens, heads of 64 channels',
        'channels x tokens',
        multihead.SELF,
    ),
    'networks': (
        f'Whole networks, {multihead.IMAGES} images of 224 x 224',
        'of the size of',
        multihead.VIT,
    ),
}
#: How many images a step of a part takes, where that is to be seen.
IMAGES = {'networks': multihead.IMAGES}


def write(rows: list[dict], conditions: dict[str, str], out: Path) -> Path:
    """Write README.md, table.csv and plots; return their folder.

    The folder below ``out`` is named after the device, the dtype and the
    number of threads, so that one run does not overwrite another's.
    """
    names = [conditions['device'], conditions['dtype']]
    if conditions['device'] == 'cpu':
        names.append(f'{conditions["threads"]}-thread')
    folder = out / '-'.join(names)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / 'table.csv')
    by_part = {}
    for row in rows:
        by_part.setdefault(row['part'], []).append(row)
    text = ['# Benchmark', '']
    text += [f'* {name}: {value}' for name, value in conditions.items()]
    text += [
        '',
        'Times in ms: median over the processes of the median of each, the',
        'contestants taking turns; in brackets the fastest and the slowest',
        'process. Ratios are of the same run; times of another machine are',
        'others. GMAC of training count the backward pass too. Memory in MB',
        '(1e6 bytes) beyond the input, the weights and, in training, the',
        "weights' gradients of the step before.",
        '',
    ]
    if 'blocks' in by_part:
        own = by_part.pop('blocks')
        plot_costs(own, folder / 'blocks.png')
        text += ['## The block', '', *cost_tables(own, blocks.PUBLISHED)]
        text += ['![time and memory over tokens](blocks.png)', '']
    for part, own in by_part.items():
        text += table(own, *TABLES[part], IMAGES.get(part))
    path = folder / 'README.md'
    write_text(path, '\n'.join(text))
    return folder


def table(
    rows: list[dict],
    title: str,
    what: str,
    baseline: str,
    images: int | None = None,
) -> list[str]:
    """Write a table for each mode, with a line for each row."""
    found = {(r['mode'], r['size'], r['member']): r for r in rows}
    text = [f'## {title}', '']
    header = [what, 'attention', 'M params', 'GMAC', 'ms']
    header += [f'times faster than {baseline}', 'MB', 'kept for backward, MB']
    header += ['images per second'] if images else []
    for mode in dict.fromkeys(row['mode'] for row in rows):
        lines = [
            [
                row['size'],
                row['member'],
                f'{row["parameters"] / 1e6:.3f}',
                amount(row, 'macs', 1e9),
                milliseconds(row),
                times_faster(row, found.get((mode, row['size'], baseline))),
                amount(row, 'memory', 1e6),
                amount(row, 'saved', 1e6),
                *([f'{images / row["seconds"]:.1f}'] if images else []),
            ]
            for row in rows
            if row['mode'] == mode
        ]
        text += [f'### {mode.capitalize()}', '', *markdown(header, lines)]
    return text
