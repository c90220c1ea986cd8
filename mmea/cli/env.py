"""``mmea env``: versions, machine, folders, and traps of the stack."""

import argparse
import json
import sys
from typing import Any

from mmea.cli.common import command

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea env',
        description='Tell what is installed here, and which of the known '
        'traps of the stack are found, with the command that mends each. '
        'Exits with 1 if there is one.',
    )
    parser.add_argument(
        '--json', action='store_true', help='print it for programs'
    )
    args = parser.parse_args(argv)

    from mmea.environment import report

    found = report()
    if args.json:
        print(json.dumps(found, indent=2, sort_keys=True))
    else:
        _print(found)
    if found['traps']:
        sys.exit(1)


def _print(found: dict[str, Any]) -> None:
    # Not by rich: mmengine brings it, and may be what is missing.
    rows = [
        ('mmea', '{version}, {installed}'.format(**found['mmea'])),
        ('Python', found['python']),
    ]
    for name, package in found['packages'].items():
        told = [
            version if distribution == name else f'{version} ({distribution})'
            for distribution, version in package['versions'].items()
        ]
        if package['error']:
            told.append(f'cannot be imported: {package["error"]}')
        rows.append((name, ', '.join(told) or '-'))
    rows += [('stack', found['stack']), ("mmcv's ops", found['ops'])]
    folders = found['folders']
    groups = [
        rows,
        _machine(found['machine']),
        [(name.replace('_', ' '), path) for name, path in folders.items()],
        list(found['variables'].items()),
    ]
    width = max(len(name) for group in groups for name, _ in group)
    for group in filter(None, groups):
        for name, value in group:
            print(f'{name:{width}}  {value}')
        print()
    for trap in found['traps']:
        print(f'trap: {trap["what"]}\n  {trap["mend"]}')
    if not found['traps']:
        print('None of the known traps of the stack is here.')


def _machine(found: dict[str, Any]) -> list[tuple[str, str]]:
    cores = f'{found["cores_usable"]} of {found["cores"]} cores'
    if 'threads' in found:
        cores += f', {found["threads"]} threads of torch'
    memory = (
        f'{found["memory_gib"]} GiB, {found["memory_free_gib"]} GiB of it free'
    )
    rows = [
        ('system', found['system']),
        ('CPU', cores),
        ('memory', memory),
        ('GPU', '; '.join(found.get('gpus', ())) or '-'),
        ('driver', found['nvidia_driver'] or '-'),
    ]
    for name, key in (('CUDA of torch', 'cuda'), ('cuDNN', 'cudnn')):
        rows.append((name, str(found.get(key) or '-')))
    return rows
