"""Put members of several comparisons into one table.

    python -m benchmarks.side_by_side \\
        none=work_dirs/head/runs/none \\
        'stride 8'=work_dirs/neck/runs/ExternalAttention2d

Prints the tables of `mmea compare` in Markdown: each member under its new
name, the seeds paired, all compared with the first. For what `mmea compare`
keeps in folders of their own as the configs differ, such as places of the
attention. Versions, data and device have to be the same.
"""

import argparse
from pathlib import Path

from mmea.compare.accuracy import accuracy_tables, in_points
from mmea.compare.run_files import find_results, read, slug
from mmea.errors import UserError


def read_member(name: str, folder: Path, facts: dict | None) -> list[dict]:
    """Return the results of a member's runs under another name."""
    paths = sorted(folder.glob('seed-*/result.json'))
    if not paths:
        raise UserError(
            f'{folder}: no seed-N/result.json, as of `mmea compare`'
        )
    facts = facts or read(paths[0])['facts']
    rows = find_results(folder.parent, facts)
    own = [row for row in rows if slug(row['member']) == folder.name]
    return [dict(row, member=name) for row in own]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('members', nargs='+', metavar='NAME=RUNS/MEMBER')
    parser.add_argument('--metric', default='mIoU', help='default: mIoU')
    args = parser.parse_args(argv)
    rows: list[dict] = []
    try:
        for member in args.members:
            name, found, folder = member.partition('=')
            if not found:
                raise UserError(f'{member}: give NAME=FOLDER')
            if name in {row['member'] for row in rows}:
                raise UserError(f'{name!r} names two members')
            facts = rows[0]['facts'] if rows else None
            rows += read_member(name, Path(folder), facts)
    except UserError as error:
        parser.error(str(error))
    rows = in_points(rows)
    if any(args.metric not in row['metrics'] for row in rows):
        known = sorted(rows[0]['metrics'])
        parser.error(f'--metric {args.metric}: the runs have {known}')
    first = rows[0]['member']
    print('\n'.join(accuracy_tables(rows, [args.metric], [first])))


if __name__ == '__main__':
    main()
