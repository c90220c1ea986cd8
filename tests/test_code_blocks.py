"""The code blocks of README.md and docs/ work as they are written.

* ``python``: run, those of a page one after the other in one namespace. What
  ``<!-- run first: ... -->`` holds below its first line is run before.
* ``shell``: no command is run, but each must exist, and its own parser must
  take its arguments.
* ``text`` is no code; right after a python block it is what that prints.

``<!-- not run: REASON -->`` in front leaves a block out.
"""

import configparser
import contextlib
import doctest
import inspect
import io
import re
import runpy
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from functools import partialmethod
from pathlib import Path

import pytest
from mmengine.config import Config

import mmea
import mmea.cli
from mmea.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    WEIGHT_INITIALIZERS,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
BLOCK = re.compile(
    r'(?:^<!-- (?P<mark>not run|run first): (?P<note>[^>]*?)-->\n+)?'
    r'^```(?P<language>\w*)\n(?P<code>.*?)^```$',
    re.M | re.S,
)
NO_CODE = ('text', 'bibtex')


def read_blocks(text, *languages):
    """Yield number of the line and match of the blocks that are to work."""
    for match in BLOCK.finditer(text):
        if match['language'] in languages and match['mark'] != 'not run':
            yield text.count('\n', 0, match.start('code')) + 1, match


def pages_with(*languages):
    return [
        pytest.param(page, id=page.relative_to(ROOT).as_posix())
        for page in PAGES
        if any(read_blocks(page.read_text(encoding='utf-8'), *languages))
    ]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_every_block_is_known(page):
    text = page.read_text(encoding='utf-8')
    matches = list(BLOCK.finditer(text))
    assert text.count('```') == 2 * len(matches), 'a fence is not understood'
    languages = {m['language'] for m in matches}
    assert languages <= {'python', 'shell', *NO_CODE}
    assert text.count('<!-- not run') + text.count('<!-- run first') == sum(
        m['mark'] is not None for m in matches
    )
    assert all(m['note'].strip() for m in matches if m['mark'])


@pytest.mark.usefixtures('safe')
@pytest.mark.parametrize('page', pages_with('python'))
def test_python(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding='utf-8')
    namespace = {}
    for line, match in read_blocks(text, 'python'):
        place = f'{page.relative_to(ROOT)}, line {line}'
        before, code = '', match['code']
        if match['mark'] == 'run first':
            before = match['note'].partition('\n')[2]
        if code.startswith('>>> '):
            run_doctest(code, namespace, place)
            continue
        # So that an error tells the line of the page.
        code = '\n' * (line - 1) + code
        exec(before, namespace)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page, 'exec'), namespace)
        output = re.match(
            r'\n+```text\n(.*?)^```', text[match.end() :], re.M | re.S
        )
        if output:
            compare_output(output[1], printed.getvalue(), place)
        check_configs(namespace, place)
        if '\n_base_ = ' in code:
            Path('config.py').write_text(code, encoding='utf-8')
            Config.fromfile('config.py')


def run_doctest(code, namespace, place):
    example = doctest.DocTestParser().get_doctest(
        code, namespace, place, str(place), 0
    )
    failed = doctest.DocTestRunner(verbose=False).run(
        example, clear_globs=False
    )
    namespace.update(example.globs)
    assert not failed.failed, place


def compare_output(want, got, place):
    same = doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)
    assert same, f'{place} prints\n{got}'


def check_configs(value, place, seen=None):
    """Every ``type='mmea.X'`` is registered and takes what stands beside."""
    seen = set() if seen is None else seen
    if id(value) in seen or not isinstance(value, (dict, list, tuple)):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        name = value.get('type')
        if isinstance(name, str) and name.startswith('mmea.'):
            part = (
                MODELS.get(name)
                or HOOKS.get(name)
                or DATASETS.get(name)
                or METRICS.get(name)
                or MODEL_WRAPPERS.get(name)
                or WEIGHT_INITIALIZERS.get(name)
            )
            assert part, f'{place}: {name} is not registered'
            inspect.signature(part).bind_partial(
                **{k: v for k, v in value.items() if k != 'type'}
            )
        value = [v for k, v in value.items() if k != '__builtins__']
    for item in value:
        check_configs(item, place, seen)


@pytest.mark.parametrize('page', pages_with('shell'))
def test_shell(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for line, match in read_blocks(page.read_text('utf-8'), 'shell'):
        for command in match['code'].replace('\\\n', ' ').splitlines():
            try:
                check_command(shlex.split(command, comments=True))
            except (AssertionError, SystemExit, ValueError, OSError) as error:
                pytest.fail(
                    f'{page.relative_to(ROOT)}, line {line}, {command}: '
                    f'{error}'
                )


class Parsed(Exception):
    """Raised where a command has read its arguments."""


def parse_only(run, *args):
    """Run a command until its parser has taken the arguments."""

    def stop(self, parse, *args, **kwargs):
        raise Parsed(parse(self, *args, **kwargs))

    with pytest.MonkeyPatch.context() as patch:
        for name in ('parse_args', 'parse_intermixed_args'):
            parse = getattr(ArgumentParser, name)
            patch.setattr(ArgumentParser, name, partialmethod(stop, parse))
        patch.setattr(sys, 'path', sys.path.copy())
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                run(*args)
            except Parsed:
                return
            except SystemExit as stopped:
                helped = stopped.code in (0, None)
                assert helped, said.getvalue() or stopped.code
                return
    raise AssertionError('the command reads no arguments')


def check_command(words):
    variables = []
    while words and re.match('[A-Z_]+=', words[0]):
        variables.append(words.pop(0).partition('=')[0])
    if not words:
        return
    check_paths(words)
    program, *args = words
    if program == 'make':
        check_make(args)
    elif program == 'mmea':
        parse_only(mmea.cli.main, args)
    elif program.endswith('python') and args[0] == '-m':
        check_module(*args[1:])
    elif program.endswith('python'):
        parse_only(run_as_main, runpy.run_path, *args)
    elif program.startswith('tools/dist_') or program.startswith(
        'tools/slurm'
    ):
        check_script(Path(program), variables, args)
    elif program == 'pip':
        check_pip(args)
    else:
        assert program in ('source', 'bash'), f'what is {program}?'


def check_paths(words):
    """Files of the checkout and configs that mmea ships exist."""
    for word in words:
        folder = word.partition('/')[0]
        if folder in ('configs', 'tools', 'tests', 'benchmarks', 'docs'):
            assert Path(word).exists(), f'there is no {word}'
        elif '/' in word and Path('configs', folder).is_dir():
            mmea.config(word)


def check_make(args):
    text = Path('Makefile').read_text(encoding='utf-8')
    for arg in args:
        name, is_variable, _ = arg.partition('=')
        if is_variable:
            known = re.search(
                rf'\$\({name}\)|^export .*\b{name}\b', text, re.M
            )
        else:
            known = re.search(f'^{name}:', text, re.M)
        assert known, f'the Makefile has no {name}'
    done = subprocess.run(
        ['make', '-n', *args], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    for line in done.stdout.splitlines():
        words = shlex.split(line)
        if words[1:3] != ['-m', 'pytest'] and 'python' in words[0]:
            check_command(words)


def run_as_main(run, name, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *args])
        run(name, run_name='__main__')


def check_module(name, *args):
    assert name.startswith(('mmea', 'benchmarks', 'examples', 'tests')), name
    parse_only(run_as_main, runpy.run_module, name, *args)


def check_script(script, variables, args):
    text = script.read_text(encoding='utf-8')
    for name in variables:
        assert f'${{{name}:-' in text, f'{script} reads no {name}'
    named = re.search(r'^# +tools/\S+ ([A-Z_ ]+) \[options', text, re.M)[1]
    named = named.split()
    assert len(args) >= len(named), f'{script} needs {named}'
    given = dict(zip(named, args))
    command = re.search(r'-m mmea\.(\w+)', text)[1]
    rest = args[len(named) :]
    config = [given[n] for n in ('CONFIG', 'CHECKPOINT') if n in given]
    parse_only(mmea.cli.main, [command, *config, *rest])


def check_pip(args):
    """Extras are those of setup.cfg, and so are pins."""
    parser = configparser.ConfigParser()
    parser.read('setup.cfg', encoding='utf-8')
    extras = parser['options.extras_require']
    pins = ' '.join([*extras.values(), Path('tools/setup_env.sh').read_text()])
    for word in args:
        for extra in re.findall(r'^(?:mmea|\.)\[(.*)\]$', word):
            assert set(extra.split(',')) <= set(extras), extra
        assert '==' not in word or word in pins, f'{word} is not the pin'


@pytest.mark.parametrize(
    'command, error',
    [
        ('mmea trein x.py', 'no command'),
        ('mmea train x.py --resumee a b', 'resumee'),
        ('mmea train configs/nothing.py', 'there is no'),
        ('python tools/train.py x.py --no-such', 'no-such'),
        ('python -m benchmarks.run --partz blocks', 'partz'),
        ("make benchmark ARGS='--partz blocks'", 'partz'),
        ('make tests', 'tests'),
        ('make test STUCK=onedl', 'STUCK'),
        ('tools/dist_train.sh x.py', 'PROCESSES'),
        ('NODES=2 tools/dist_train.sh x.py 2', 'NODES'),
        ('tools/dist_train.sh x.py 2 --ampp', 'ampp'),
        ('mmea test eanet/nothing.py', 'no config'),
        ('pip install mmea[onedle]', 'onedle'),
        ('pip install onedl-mmcv==1.0', 'not the pin'),
        ('mmtrain x.py', 'what is'),
    ],
)
def test_wrong_commands_are_found(command, error, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, SystemExit, ValueError), match=error):
        check_command(shlex.split(command))


def test_wrong_configs_are_found():
    with pytest.raises(AssertionError, match='mmea.EAHeed'):
        check_configs(dict(a=[dict(type='mmea.EAHeed')]), 'page')
    with pytest.raises(TypeError, match='num_slot'):
        check_configs(dict(type='mmea.EANeck', num_slot=3), 'page')
