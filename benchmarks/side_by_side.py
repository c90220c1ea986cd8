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
from mmea.compare.run_files import check_facts, read_result
from mmea.errors import UserError


def read_member(name: str, folder: Path, first: dict | None) -> list[dict]:
    """Return the results of a member's runs under another name.

    Args:
        name (str): In the tables.
        folder (Path): Of the member, OUT/runs/MEMBER.
        first (dict | None): A result whose facts these have to have.
    """
    rows = []
    for path in sorted(folder.resolve().glob('seed-*/result.json')):
        row = read_result(path)
        first = first or row
        # One that names no device may be of any.
        if 'device' in first['facts'] and 'device' not in row['facts']:
            raise UserError(f'{path} does not tell its device')
        check_facts(path, row['facts'], first['facts'])
        rows.append(dict(row, member=name))
    if not rows:
        raise UserError(
            f'{folder}: no seed-N/result.json, as of `mmea compare`'
        )
    return sorted(rows, key=lambda row: row['seed'])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('members', nargs='+', metavar='NAME=RUNS/MEMBER')
    parser.add_argument('--metric', default='mIoU', help='default: mIoU')
    args = parser.parse_args(argv)
    rows: list[dict] = []
    first: list[dict] = []
    try:
        for member in args.members:
            name, _, folder = member.partition('=')
            if not name.strip() or not folder or {*'|\n'} & {*name}:
                raise UserError(
                    f'{member!r}: give NAME=FOLDER, and no | in the name'
                )
            if name in {row['member'] for row in rows}:
                raise UserError(f'{name!r} names two members')
            own = read_member(name, Path(folder), first[0] if first else None)
            first = first or own
            seeds, others = ([row['seed'] for row in m] for m in (own, first))
            if not {*seeds} & {*others}:
                raise UserError(
                    f'{name} has seeds {seeds}, the first member {others}: '
                    'none in common to compare by'
                )
            rows += own
    except UserError as error:
        parser.error(str(error))
    rows = in_points(rows)
    if any(args.metric not in row['metrics'] for row in rows):
        known = sorted(rows[0]['metrics'])
        parser.error(f'--metric {args.metric}: the runs have {known}')
    if len({row.get('length') for row in rows}) > 1:
        parser.error('the members were trained for different lengths')
    base = rows[0]['member']
    print('\n'.join(accuracy_tables(rows, [args.metric], [base])))


if __name__ == '__main__':
    main()
