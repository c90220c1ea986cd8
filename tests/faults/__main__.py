"""Plant small faults and see that the tests catch them.

``python -m tests.faults [NAME ...]``: each fault of the list in
:mod:`tests.faults.faults` goes into a copy of the working tree, in which the
tests that it names run. It is the measure of what a change of the tests loses.

The faults are chosen by hand: a mutation tester (mutmut, cosmic-ray) changes
every operator blindly, which here makes thousands of mutants, many of them
equivalent, with seconds to minutes of tests for each.
"""

import argparse
import ast
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from .faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
# What a copy needs, beside the files at the top.
FOLDERS = ('benchmarks', 'configs', 'docs', 'mmea', 'tests', 'tools')
TIMEOUT = 600  # seconds of the tests of one fault
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class FaultError(Exception):
    """A fault that cannot be planted, or tests that do not run."""


def plant(fault: Fault, root: Path) -> tuple[Path, str]:
    """Make a fault's change. Reads files, imports nothing.

    Args:
        fault (Fault): What to change.
        root (Path): Folder of the package.

    Returns:
        tuple[Path, str]: The file, and its text with the fault.

    Raises:
        FaultError: The place or the text is not there or not once, the result
            is no Python or the same program, or a test file is missing.
    """
    for test in fault.tests.split():
        if not (root / test.partition('::')[0]).exists():
            raise FaultError(f'{fault.name}: {test} is not there')
    path, names = _module(fault, root)
    source = path.read_text(encoding='utf-8')
    tree = node = ast.parse(source)
    for name in names:
        found = [child for child in _inside(node) if name in _names(child)]
        if len(found) != 1:
            raise FaultError(
                f'{fault.name}: {fault.place} needs one {name!r} in {path}, '
                f'found {len(found)}'
            )
        (node,) = found
    lines = source.split('\n')
    first, last = 0, len(lines)
    if names:
        decorators = getattr(node, 'decorator_list', [])
        first = min(part.lineno for part in (node, *decorators)) - 1
        last = node.end_lineno
    text = '\n'.join(lines[first:last])
    if text.count(fault.old) != 1:
        raise FaultError(
            f'{fault.name}: {fault.old!r} must be once in {fault.place} '
            f'({path}), found {text.count(fault.old)} times'
        )
    lines[first:last] = [text.replace(fault.old, fault.new)]
    changed = '\n'.join(lines)
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(tree)
    except SyntaxError as error:
        raise FaultError(f'{fault.name}: the result is no Python') from error
    if same:
        raise FaultError(f'{fault.name}: the change changes nothing')
    return path, changed


def _module(fault: Fault, root: Path) -> tuple[Path, list[str]]:
    """File of the longest part of a dotted name that is a module; the rest."""
    parts = fault.place.split('.')
    for end in range(len(parts), 0, -1):
        stem = root.joinpath(*parts[:end])
        for path in (Path(f'{stem}.py'), stem / '__init__.py'):
            if path.is_file():
                return path, parts[end:]
    raise FaultError(f'{fault.name}: no module for {fault.place}')


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a node, but not what is in a definition within."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _DEFINITIONS):
            yield from _inside(child)


def _names(node: ast.AST) -> set[str]:
    """What a definition or an assignment binds."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    targets = getattr(node, 'targets', [getattr(node, 'target', None)])
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return {t.id for t in targets if isinstance(t, ast.Name)}
    return set()


def check(faults: list[Fault], root: Path):
    """Raise a FaultError, with a line for each fault that is out of date."""
    errors = []
    names = [fault.name for fault in faults]
    errors += [f'{n}: a name twice' for n in set(names) if names.count(n) > 1]
    for fault in faults:
        try:
            plant(fault, root)
        except FaultError as error:
            errors.append(str(error))
    if errors:
        raise FaultError('\n'.join(errors))


class Copy:
    """A copy of the working tree, as a context; perhaps with a fault."""

    def __init__(self, root: Path, fault: Fault | None = None):
        self.root, self.fault = root, fault

    def __enter__(self) -> 'Copy':
        self._folder = tempfile.TemporaryDirectory(prefix='mmea-fault-')
        self.path = Path(self._folder.name).resolve()
        for part in self.root.iterdir():
            if part.name in FOLDERS:
                shutil.copytree(
                    part,
                    self.path / part.name,
                    symlinks=True,
                    # A stale one of the same second and size would be taken.
                    ignore=shutil.ignore_patterns('__pycache__'),
                )
            elif part.is_file():
                shutil.copy2(part, self.path)
        if self.fault is not None:
            path, text = plant(self.fault, self.path)
            path.write_text(text, encoding='utf-8')
        imported = self.run('-c', 'import mmea; print(mmea.__file__)')
        if not imported.stdout.startswith(f'{self.path}{os.sep}'):
            raise FaultError(f'mmea is not the copy: {imported.stdout}')
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def run(self, *args: str) -> subprocess.CompletedProcess:
        # For the processes that tests start, from other folders.
        paths = [str(self.path), os.environ.get('PYTHONPATH')]
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.path,
            env=dict(
                os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths))
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            timeout=TIMEOUT,
        )

    def test(self, *args: str) -> subprocess.CompletedProcess:
        return self.run(
            *'-m pytest -q -rfE -p no:cacheprovider'.split(),
            *('-m', 'not slow'),
            *args,
        )


def try_fault(fault: Fault, root: Path) -> tuple[str, str]:
    """Run a fault's tests with it; 'caught', 'NOT CAUGHT' or 'error', why."""
    try:
        with Copy(root, fault) as copy:
            done = copy.test('-x', *fault.tests.split())
    except subprocess.TimeoutExpired:
        return 'error', f'no end within {TIMEOUT} seconds'
    last = done.stdout.rstrip().rpartition('\n')[2]
    # With the name of a test: a module that cannot be imported has none.
    failed = re.search(
        r'^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$', done.stdout, re.MULTILINE
    )
    if done.returncode == 1 and failed:
        return 'caught', failed[1]
    if done.returncode == 0 and 'passed' in last:
        return 'NOT CAUGHT', f'by {fault.tests}'
    return 'error', last  # none ran, or all were skipped


def check_tests(faults: list[Fault], root: Path, jobs: int):
    """Raise a FaultError unless all that the faults name passes without."""
    tests = dict.fromkeys(t for fault in faults for t in fault.tests.split())
    with Copy(root) as copy:
        parallel = ['-n', str(jobs), '--dist', 'worksteal']
        done = copy.test(*(parallel if jobs > 1 else []), *tests)
    if done.returncode:
        raise FaultError(f'{done.stdout}\nthe tests fail without a fault')


def try_all(faults: list[Fault], root: Path, jobs: int) -> bool:
    """Try faults, print what comes of them; whether all were caught."""
    start = time.monotonic()
    check_tests(faults, root, jobs)
    print(f'The tests pass without a fault: {time.monotonic() - start:.0f} s')
    lines = []

    def attempt(fault: Fault):
        begin = time.monotonic()
        found, why = try_fault(fault, root)
        return fault, found, why, time.monotonic() - begin

    with ThreadPoolExecutor(jobs) as pool:
        try:
            tasks = [pool.submit(attempt, fault) for fault in faults]
            for task in as_completed(tasks):
                fault, found, why, seconds = task.result()
                lines.append((fault, found))
                print(
                    f'{found:10} {seconds:5.0f} s  {fault.name}: {why}',
                    flush=True,
                )
        finally:
            pool.shutdown(cancel_futures=True)
    print(f'\n{"part":28} {"faults":>7} {"caught":>7}')
    parts = sorted({_part(fault) for fault in faults})
    for part in (*parts, 'all'):
        own = [found for f, found in lines if part in ('all', _part(f))]
        print(f'{part:28} {len(own):7} {own.count("caught"):7}')
    missed = [f.name for f, found in lines if found != 'caught']
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f'{time.monotonic() - start:.0f} s, '
        f'{used.ru_utime + used.ru_stime:.0f} s of processor time'
    )
    if missed:
        print(f'Not caught: {" ".join(missed)}')
    return not missed


def _part(fault: Fault) -> str:
    return '.'.join(fault.place.split('.')[:2])


def main(
    argv: list[str] | None = None,
    faults: list[Fault] = FAULTS,
    root: Path = ROOT,
):
    parser = argparse.ArgumentParser(
        prog='python -m tests.faults',
        description='Plant small faults, see that the tests catch them.',
    )
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help='a fault, or a part of the package such as mmea.ops (default: '
        'all faults)',
    )
    parser.add_argument('--jobs', type=int, default=2, help='at a time')
    parser.add_argument('--list', action='store_true', help='and end')
    parser.add_argument(
        '--check',
        action='store_true',
        help='see that each can be planted, run no test',
    )
    parser.add_argument(
        '--all-tests',
        action='store_true',
        help='run the whole suite for each NAME, not the tests of the list',
    )
    args = parser.parse_args(argv)
    for name in args.names:
        if not any(_answers(fault, name) for fault in faults):
            parser.error(f'no fault {name!r}; --list shows all')
    if args.names:
        faults = [
            fault
            for fault in faults
            if any(_answers(fault, name) for name in args.names)
        ]
    if args.list:
        for fault in faults:
            print(f'{fault.name:36} {fault.place}')
        return
    try:
        check(faults, root)
        if args.check:
            return
        if args.all_tests:
            if not args.names:
                parser.error('--all-tests needs a NAME')
            faults = [replace(fault, tests='tests') for fault in faults]
        if not try_all(faults, root, args.jobs):
            sys.exit(1)
    except FaultError as error:
        sys.exit(f'error: {error}')


def _answers(fault: Fault, name: str) -> bool:
    return fault.name == name or f'{fault.place}.'.startswith(f'{name}.')


if __name__ == '__main__':
    main()
