import os
import signal
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

import mmea
from mmea import cli, train
from mmea.cli.common import command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_help_imports_nothing_heavy(name):
    code = (
        'import sys, mmea.cli\n'
        'try:\n'
        f'    mmea.cli.main(["{name}", "--help"])\n'
        'except SystemExit as end:\n'
        '    heavy = {"torch", "numpy", "mmengine"} & set(sys.modules)\n'
        '    sys.exit(end.code or str(heavy or ""))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert f'usage: mmea {name}' in done.stdout
    assert not done.stderr.strip()


def test_every_command_is_there(capsys):
    cli.main(['--help'])
    out = capsys.readouterr().out
    for name, what in cli.COMMANDS.items():
        assert callable(
            import_module(f'mmea.cli.{name.replace("-", "_")}').main
        )
        assert f'  {name}' in out and what in out
    files = {p.stem for p in (ROOT / 'mmea/cli').glob('*.py')}
    commands = {name.replace('-', '_') for name in cli.COMMANDS}
    assert files == commands | {'__init__', 'common'}


def test_version(capsys):
    cli.main(['--version'])
    assert capsys.readouterr().out == f'mmea {mmea.__version__}\n'


def test_unknown_command():
    with pytest.raises(SystemExit, match="'trian', did you mean 'train'"):
        cli.main(['trian'])


def test_arguments_reach_the_command():
    with pytest.raises(SystemExit, match='no config file nothing.py'):
        cli.main(['train', 'nothing.py'])


@pytest.mark.parametrize(
    ('door', 'name'),
    [
        ('-m mmea.train', 'train'),
        ('-m mmea.test', 'test'),
        ('-m mmea.compare', 'compare'),
        ('-m mmea.convert', 'convert'),
        ('tools/train.py', 'train'),
        ('tools/test.py', 'test'),
        ('tools/compare_attention.py', 'compare'),
        ('tools/model_converters/convert.py', 'convert'),
        ('tools/dataset_converters/coco_to_masks.py', 'coco-to-masks'),
    ],
)
def test_other_doors(door, name):
    done = subprocess.run(
        [sys.executable, *door.split(), '--help'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f'usage: mmea {name} ')
    assert not done.stderr


def test_console_command_is_declared():
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg', encoding='utf-8')
    scripts = setup['options.entry_points']['console_scripts']
    assert scripts.strip() == 'mmea = mmea.cli:main'


def test_an_interruption_is_one_line(capsys):
    @command
    def main(argv=None):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as info:
        main([])
    assert info.value.code == 130
    assert capsys.readouterr().err == 'interrupted\n'


SLOW = """
import sys, time
from mmea.cli.common import command
from mmea.files import whole

@command
def main(argv):
    with whole('x.onnx') as part:
        part.write_text('half')
        print('writing', flush=True)
        time.sleep(60)

main([])
"""


@pytest.mark.parametrize(
    ('number', 'code'),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_leaves_nothing_half_written(number, code, tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', SLOW],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b'writing\n'
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    assert process.wait(20) == code
    process.stdout.close()
    assert not list(tmp_path.iterdir())


def test_signals_are_given_back():
    """And one that is ignored, as by nohup, stays so."""
    seen = []

    @command
    def main(argv=None):
        seen.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGHUP)))

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        main([])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert callable(seen[0]) and seen[1] == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_option_without_a_value(capsys):
    with pytest.raises(SystemExit):
        train.main(['x.py', '--cfg-options', 'a'])
    assert '--cfg-options takes KEY=VALUE' in capsys.readouterr().err
