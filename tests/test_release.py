"""What `make release` refuses, before it builds anything."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmea

ROOT = Path(__file__).resolve().parents[1]
FILES = ('mmea/__init__.py', 'CITATION.cff', 'CHANGELOG.md')


@pytest.fixture
def checkout(tmp_path):
    for name in (*FILES, 'tools/release.sh'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git(tmp_path, 'init', '-q')
    commit(tmp_path)
    return tmp_path


def git(folder, *args):
    author = ('-c', 'user.name=a', '-c', 'user.email=a@b')
    subprocess.run(['git', *author, *args], cwd=folder, check=True)


def commit(folder):
    git(folder, 'add', '-A')
    git(folder, 'commit', '-q', '-m', '[X] Change')


def change(folder, name, pattern, value):
    text = (folder / name).read_text()
    new = re.sub(pattern, value, text, count=1)
    assert new != text
    (folder / name).write_text(new)
    commit(folder)


def release(folder):
    done = subprocess.run(
        ['bash', 'tools/release.sh', sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stdout + done.stderr


def test_it_gets_past_the_checks_and_builds(checkout):
    # There is no pyproject.toml in this folder.
    assert 'error: the build failed, see above' in release(checkout)


def test_uncommitted(checkout):
    (checkout / 'CITATION.cff').open('a').write('\n')
    assert release(checkout).startswith('error: there are changes that are')


def test_tag_that_is_there(checkout):
    git(checkout, 'tag', f'v{mmea.__version__}')
    error = f'error: there is a tag v{mmea.__version__} already: raise'
    assert release(checkout).startswith(error)


@pytest.mark.parametrize(
    ('name', 'pattern', 'value', 'error'),
    [
        (
            'CITATION.cff',
            r'(?m)^version: .*',
            'version: 9.9.9',
            f'CITATION.cff has version 9.9.9, mmea/__init__.py '
            f'{mmea.__version__}: make them one',
        ),
        (
            'CHANGELOG.md',
            r'(?m)^## .*',
            '## Unreleased',
            "CHANGELOG.md begins with '## Unreleased': make it "
            f"'## {mmea.__version__} (DATE)'",
        ),
    ],
)
def test_versions_that_differ(checkout, name, pattern, value, error):
    change(checkout, name, pattern, value)
    assert release(checkout) == f'error: {error}\n'
