"""The wheel, as a project outside of the checkout sees it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmea.engine.checkpoint import load_checkpoint

from .conftest import CONFIG, write_images

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, **env):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """What a clone holds: no build folder, nothing that git ignores."""
    if not (ROOT / '.git').exists():
        pytest.skip('needs a git checkout')
    names = subprocess.run(
        [
            'git',
            'ls-files',
            '-z',
            '--cached',
            '--others',
            '--exclude-standard',
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split('\0')
    target = tmp_path_factory.mktemp('source')
    for name in filter(None, names):
        file = ROOT / name
        if os.path.lexists(file):  # git lists deleted files too
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target / name, follow_symlinks=False)
    return target


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    target = tmp_path_factory.mktemp('wheel')
    flags = ('--no-deps', '--no-build-isolation', '--wheel-dir', target)
    run('-m', 'pip', 'wheel', *flags, source, cwd=source)
    return next(target.glob('mmea-*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """A folder for PYTHONPATH: it wins over an editable install of mmea."""
    target = tmp_path_factory.mktemp('installed')
    flags = ('--no-deps', '--no-index', '--target', target)
    run('-m', 'pip', 'install', *flags, wheel, cwd=target)
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Run code in a project folder that has mmea from the wheel only."""

    def call(*command):
        return run(*command, cwd=tmp_path, PYTHONPATH=str(installed))

    where = call('-c', 'import mmea; print(mmea.__file__)').strip()
    assert Path(where).is_relative_to(installed)
    return call


def shipped(source):
    """Configs in the checkout, as paths in the wheel."""
    return {
        f'mmea/.mim/configs/{p.relative_to(source / "configs").as_posix()}'
        for p in (source / 'configs').rglob('*')
        if p.suffix in ('.py', '.yml', '.md')
    }


def check_wheel(wheel, source):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in shipped(source):
            config = source / 'configs' / name.split('configs/', 1)[1]
            assert archive.read(name) == config.read_bytes()
    modules = {
        p.relative_to(source).as_posix()
        for p in (source / 'mmea').rglob('*.py')
        if '.mim' not in p.parts
    }
    assert modules | {'mmea/py.typed'} <= names
    folders = {n.split('/')[0] for n in names}
    assert {f.split('-')[0] for f in folders} == {'mmea'}, 'more than mmea'


def test_contents(wheel, source):
    assert any('/_base_/' in n for n in shipped(source))
    assert 'mmea/.mim/configs/ea_fpn_ade20k.py' in shipped(source)
    check_wheel(wheel, source)


def test_wheel_from_sdist(source, tmp_path):
    """The link is a real folder in an sdist; its wheel must not differ."""
    code = (
        'import sys; from setuptools import build_meta; '
        'build_meta.build_sdist(sys.argv[1])'
    )
    run('-c', code, tmp_path, cwd=source)
    flags = ('--no-deps', '--no-build-isolation', '--wheel-dir', tmp_path)
    sdist = next(tmp_path.glob('mmea-*.tar.gz'))
    run('-m', 'pip', 'wheel', *flags, sdist, cwd=tmp_path)
    check_wheel(next(tmp_path.glob('mmea-*.whl')), source)


def test_metadata(wheel):
    import mmea

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith('/METADATA'))
        metadata = archive.read(name).decode()
    assert f'\nVersion: {mmea.__version__}\n' in metadata
    required = [
        line
        for line in metadata.splitlines()
        if line.startswith('Requires-Dist') and 'extra ==' not in line
    ]
    assert required == ['Requires-Dist: torch>=2.6', 'Requires-Dist: numpy']


def test_config_of_another_project(python, tmp_path):
    """Inherit, override one key of the head and one from the command line."""
    (tmp_path / 'mine.py').write_text(
        "_base_ = __import__('mmea').config('ea_fpn_ade20k.py')\n"
        'model = dict(decode_head=dict(num_classes=7))\n'
    )
    (tmp_path / 'load.py').write_text(
        'from mmengine.config import Config\n'
        "cfg = Config.fromfile('mine.py')\n"
        'cfg.merge_from_dict('
        "{'model.decode_head.attention.num_slots': 32})\n"
        'head = cfg.model.decode_head\n'
        'assert head.num_classes == 7, head\n'
        'assert head.attention.num_slots == 32, head\n'
        "assert head.attention.type == 'mmea.ExternalAttention2d', head\n"
        "assert head.type.startswith('mmea.'), head\n"
        "assert cfg.train_dataloader, 'the rest of the base is there'\n"
        "print('loaded')\n"
    )
    assert 'loaded' in python('load.py')


def test_training_in_another_project(python, tmp_path):
    """Another head in an own config, and its attention's size by option."""
    pytest.importorskip('mmseg')
    write_images(tmp_path / 'data', 'training', 8)
    write_images(tmp_path / 'data', 'validation', 2)
    (tmp_path / 'mine.py').write_text(
        CONFIG + "model['decode_head'] = dict(\n"
        "    _delete_=True, type='mmea.EAHead', in_channels=8, in_index=1,\n"
        '    channels=8, mid_channels=4, num_classes=150,\n'
        "    attention=dict(type='mmea.ExternalAttention2d'))\n"
    )
    slots = 'model.decode_head.attention.num_slots=32'
    length = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    options = ('--cfg-options', *length, slots)
    assert 'mIoU' in python('-m', 'mmea.train', 'mine.py', *options)
    state = load_checkpoint(tmp_path / 'work_dirs/mine/iter_2.pth')
    memory = state['state_dict']['decode_head.attention.key_memory']
    assert memory.shape == (32, 8)
    assert '--show-dir' in python('-m', 'mmea.test', '--help')


@pytest.mark.slow
def test_own_photographs_as_the_readme_has_it(python, tmp_path):
    """Its commands, one after the other; the config shorter than it is."""
    pytest.importorskip('mmseg')
    pytest.importorskip('onnxscript')
    write_images(tmp_path / 'own', 'all', 12)
    for name, folder in (('images', 'photos'), ('annotations', 'masks')):
        shutil.copytree(
            tmp_path / f'own/{name}/all', tmp_path / 'my_data' / folder
        )
    shutil.copytree(tmp_path / 'my_data/photos', tmp_path / 'photos')
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    block = text.split('## Your own photographs')[1].split('```')[1]
    for line in block.splitlines()[1:]:
        program, *command = shlex.split(line, comments=True)
        assert program == 'mmea'
        if command[0] == 'app':  # it serves until Ctrl-C
            continue
        python('-c', 'from mmea.cli import main; main()', *command)
        if command[0] == 'new':
            config = tmp_path / command[-1]
            text = re.sub(
                r'(?m)^max_iters = \d+', 'max_iters = 2', config.read_text()
            )
            assert 'max_iters = 2' in text
            text = text.replace(
                'model = dict(',
                'model = dict(\n    backbone=dict(init_cfg=None),',
                1,
            )
            # So that the log of two iterations has one.
            text += 'default_hooks.update(logger=dict(interval=1))\n'
            config.write_text(text)
    labels = [
        np.array(Image.open(path))
        for path in sorted((tmp_path / 'found/labels').iterdir())
    ]
    assert len(labels) == 12 and labels[0].shape == (32, 48)
    assert {i for x in labels for i in np.unique(x)} <= {0, 1, 2}
    assert (tmp_path / 'model.onnx').stat().st_size > 1e6
    assert 'apache-2.0' in (tmp_path / 'published/README.md').read_text()


def test_names_are_listed(python, source):
    listed = python('-c', 'import mmea; print(*mmea.list_configs())').split()
    leaves = {
        p.relative_to(source / 'configs').as_posix()
        for p in (source / 'configs').rglob('*.py')
    }
    assert set(listed) == {n for n in leaves if not n.startswith('_base_/')}
