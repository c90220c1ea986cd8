import shutil
import subprocess
import sys
from argparse import ArgumentParser

import pytest

from mmea import cli
from mmea.cli import completion, convert, predict
from mmea.completion import SHELLS, parser_of
from mmea.convert import SOURCES

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_mmea mmea "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    """The script in a file, as bash loads it."""
    pytest.importorskip('shtab')
    path = tmp_path_factory.mktemp('completion') / 'mmea.bash'
    code = 'from mmea.cli import main; main(["completion", "bash"])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True)
    assert not done.stderr
    path.write_bytes(done.stdout)
    return path


@pytest.fixture
def ask(script, tmp_path):
    """What bash offers for words, the last of which is begun."""
    bash = shutil.which('bash')
    if bash is None:
        pytest.skip('there is no bash here')
    for name in ('my_config.py', 'my_notes.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'my_folder').mkdir()

    def call(*words):
        done = subprocess.run(
            [bash, '--norc', '-c', ASK, 'bash', str(script), 'mmea', *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        return set(done.stdout.split())

    return call


def test_commands(ask):
    assert ask('') == set(cli.COMMANDS)
    assert ask('tr') == {'train'}
    assert ask('co') == {
        'compare', 'convert', 'completion', 'coco-to-masks'
    }  # fmt: skip
    assert ask('--v') == {'--version'}


def test_options(ask):
    assert ask('train', '--re') == {'--resume'}
    assert ask('check-data', 'x.py', '--n') == {'--num', '--no-check'}
    assert '--local-rank' not in ask('train', '--l')  # hidden
    assert ask('train', '--l') == {'--launcher', '--log'}


def test_choices(ask):
    assert ask('train', 'x.py', '--log', '') == {'tensorboard', 'wandb'}
    assert ask('train', '--launcher', 's') == {'slurm'}
    assert ask('completion', '') == set(SHELLS)
    assert ask('convert', '') == set(SOURCES)


def test_files(ask):
    files = {'my_config.py', 'my_notes.txt', 'my_folder'}
    assert ask('train', 'my') == files
    assert ask('predict', 'x.py', 'a.jpg', 'my_n') == {'my_notes.txt'}
    assert ask('new', 'd', '--images', 'my_f') == {'my_folder'}
    assert ask('train', 'x.py', '--swap-attention', 'my') == set()
    assert ask('compare', '--jobs', 'my') == set()


@pytest.mark.parametrize('shell', SHELLS)
def test_every_shell(shell, capsys):
    pytest.importorskip('shtab')
    completion.main([shell])
    out = capsys.readouterr().out
    assert 'coco-to-masks' in out and 'swap-attention' in out


def test_parsers_are_those_of_the_commands():
    prog = parser_of(predict.main).prog
    assert prog == 'mmea predict'
    actions = parser_of(convert.main)._actions
    assert [a.choices for a in actions if a.dest == 'source'] == [SOURCES]
    parser = ArgumentParser()  # as ever
    assert parser.parse_args([]) == parser.parse_intermixed_args([])


def test_without_shtab(monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    with pytest.raises(SystemExit, match='shtab: pip install shtab'):
        completion.main(['zsh'])
