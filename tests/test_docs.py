"""The documentation names what there is, and its site stands alone."""

import html.parser
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import mmea
from tests.test_package import FLOORS, TOP, modules

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
LINK = re.compile(r'\]\((?!\w+:|#)([^)\s#]+)')
CODE = re.compile(r'^```.*?^```|`[^`\n]*`', re.M | re.S)


def read(path):
    return (ROOT / path).read_text(encoding='utf-8')


def test_links_lead_to_files():
    pages = [p.relative_to(ROOT).as_posix() for p in DOCS.rglob('*.md')]
    pages += ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md']
    pages += [p.relative_to(ROOT) for p in ROOT.glob('configs/**/*.md')]
    dead = [
        f'{page}: {link}'
        for page in pages
        for link in LINK.findall(CODE.sub('', read(page)))
        if not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert not dead


class TestArchitecture:
    TEXT = read('docs/architecture.md')

    def test_map_names_every_module(self):
        """Each package, and each module right in mmea."""
        rows = re.findall(r'^\| (\[mmea/.*?) \|', self.TEXT, re.M)
        named = [n for row in rows for n in re.findall(r'\[(.*?)\]', row)]
        there = {
            path.parent if path.name == '__init__.py' else path
            for path in modules()
            if path.name == '__init__.py' or path.parent == ROOT / 'mmea'
        }
        there = {p.relative_to(ROOT).as_posix() for p in there} - {'mmea'}
        assert {
            'missing': sorted(there - set(named)),
            'gone': sorted(set(named) - there),
        } == {'missing': [], 'gone': []}
        assert len(named) == len(set(named))

    def test_long_files_are_told(self):
        files = [
            path
            for folder in ('mmea', 'benchmarks')
            for path in (ROOT / folder).rglob('*.py')
            if path.read_text('utf-8').count('\n') > 300
            and 'results' not in path.parts  # written by a command
        ]
        told = self.TEXT[self.TEXT.index('Files of more than 300 lines') :]
        told = told[: told.index('\n\n')]
        named = {n.split('/')[-1] for n in re.findall(r'`([\w/]+\.py)`', told)}
        assert named == {path.name for path in files}

    def test_floors_are_those_that_hold(self):
        drawn = {}
        for number, names in re.findall(
            r'^ +(\d)    (\w+(?:  \w+)*)', self.TEXT, re.M
        ):
            drawn.update(dict.fromkeys(names.split(), int(number)))
        top = {p.relative_to(ROOT / 'mmea').parts[0] for p in modules()}
        top = {name.removesuffix('.py') for name in top} - {'__init__'}
        assert drawn == {name: FLOORS.get(name, TOP) for name in top}


def test_names_exist():
    """What stands as ``mmea.X`` can be imported or built by a registry."""
    from mmea import registry

    pages = [*DOCS.rglob('*.md'), ROOT / 'README.md', ROOT / 'CONTRIBUTING.md']
    names = {
        name
        for page in pages
        for name in re.findall(r'`(mmea(?:\.\w+)+)', page.read_text('utf-8'))
    } - {'mmea.X'}
    assert len(names) > 50

    def exists(name):
        if any(
            getattr(registry, kind).get(name)
            for kind in registry.__all__
            if kind.isupper()
        ):
            return True
        value = mmea
        for i, part in enumerate(name.split('.')[1:], 2):
            try:
                value = getattr(value, part)
            except AttributeError:
                path = '.'.join(name.split('.')[:i])
                if not find_spec(path):
                    return False
                value = import_module(path)
        return True

    assert not sorted(name for name in names if not exists(name))


def find_variables(text):
    """Environment variables that Python or shell code reads or sets."""
    python = re.findall(
        r"environ(?:\.\w+\(|\[)\s*'([A-Z_]+)'|'([A-Z_]+)' (?:not )?in os\.env",
        text,
    )
    return {a or b for a, b in python} | set(
        re.findall(r'\$\{([A-Z_]+):?-', text)
    )


def test_environment_variables():
    table = re.findall(
        r'^\| (`.*?) \|', read('docs/environment_variables.md'), re.M
    )
    named = {name for row in table for name in re.findall('`(.*?)`', row)}
    texts = [read('Makefile')]
    for folder in ('mmea', 'benchmarks', 'tests', 'tools'):
        for path in ROOT.joinpath(folder).rglob('*.[ps][yh]'):
            if path != Path(__file__).resolve():
                texts.append(path.read_text('utf-8'))
    used = set().union(*map(find_variables, texts)) - {'PYTHONPATH'}
    assert {'MMEA_DATA', 'RANK', 'LOCAL_RANK', 'NNODES', 'MAX_JOBS'} <= used
    assert not sorted(used - named), 'the page lacks these'
    # Some are read by torch, which tools/setup_env.sh asks.
    words = set(re.findall(r'\b[A-Z_]+\b', '\n'.join(texts)))
    assert not sorted(named - words), 'nothing reads these'


def test_citation():
    cff = yaml.safe_load(read('CITATION.cff'))
    assert cff['cff-version'] == '1.2.0'
    assert cff['version'] == mmea.__version__
    (paper,) = cff['references']
    bibtex = re.search(r'```bibtex\n(.*?)```', read('README.md'), re.S)[1]
    assert f'{{{paper["title"]}}}' in re.sub(r'\s+', ' ', bibtex)
    names = [
        f'{a["family-names"]}, {a["given-names"]}' for a in paper['authors']
    ]
    assert ' and '.join(names) in re.sub(r'\s+', ' ', bibtex)
    assert (
        f'{{{paper["identifiers"][0]["value"].removeprefix("arXiv:")}}}'
        in bibtex
    )


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get('id'), attrs.get('name')}
        if tag == 'a' and attrs.get('href'):
            self.links.add(attrs['href'])
        if tag == 'link' and attrs.get('rel') not in (
            'canonical',
            'prev',
            'next',
        ):
            self.loads.add(attrs['href'])
        for name in ('src', 'srcset', 'data', 'poster'):
            if tag != 'data' and attrs.get(name):
                self.loads.add(attrs[name])


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site: its folder, and its pages by path."""
    own = ROOT / '.venv-docs' / 'bin'
    if (own / 'python').is_file():
        python = str(own / 'python')
    elif find_spec('mkdocs') and find_spec('mkdocstrings'):
        python = sys.executable
    else:
        pytest.skip('no mkdocs here; `make docs` installs it')
    folder = tmp_path_factory.mktemp('site')
    built = subprocess.run(
        [python, '-m', 'mkdocs', 'build', '--strict', '-d', str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            'NO_MKDOCS_2_WARNING': '1',
            'PATH': f'{own}{os.pathsep}{os.environ["PATH"]}',
        },
        capture_output=True,
        text=True,
    )
    log = built.stdout + built.stderr
    assert not built.returncode and 'WARNING' not in log, log
    return folder, {
        path.relative_to(folder).as_posix(): Page(path.read_text('utf-8'))
        for path in folder.rglob('*.html')
    }


API = (
    'layers',
    'ops',
    'scale',
    'models',
    'swap',
    'convert',
    'profiling',
    'caam',
    'point_clouds',
    'gan',
    'stereo',
)


@pytest.mark.slow
class TestSite:
    def test_links_and_anchors(self, site):
        folder, pages = site
        assert len(pages) > 100
        dead = []
        # 404.html has links from the root, where it would be served.
        for name in pages.keys() - {'404.html'}:
            page = pages[name]
            for link in page.links | page.loads:
                url = urlsplit(link)
                if url.scheme or url.netloc:
                    continue
                target = folder / name
                if url.path:
                    target = target.parent / unquote(url.path)
                    target = Path(os.path.normpath(target))
                if target.is_dir():
                    target /= 'index.html'
                if not target.is_file():
                    dead.append(f'{name}: {link}')
                elif url.fragment and target.suffix == '.html':
                    there = pages[target.relative_to(folder).as_posix()]
                    if unquote(url.fragment) not in there.anchors:
                        dead.append(f'{name}: {link}')
        assert not dead

    def test_nothing_is_loaded_from_elsewhere(self, site):
        folder, pages = site
        away = re.compile(r'(\w+:)?//')
        assert not {
            (name, load)
            for name, page in pages.items()
            for load in page.loads
            if away.match(load) and not load.startswith('data:')
        }
        for path in folder.rglob('*.css'):
            loads = re.findall(
                r'(?:@import|url\()\s*["\']?((?:https?:)?//[^)"\']+)',
                path.read_text('utf-8'),
            )
            assert not loads, path

    def test_public_names_have_their_place(self, site):
        _, pages = site
        for name in API:
            public = import_module(f'mmea.{name}').__all__
            anchors = {
                anchor.rpartition('.')[2]
                for anchor in pages[f'api/{name}.html'].anchors
                if anchor and anchor.startswith('mmea.')
            }
            # Constants have no docstring; a class may stand on another page.
            written = re.findall(r'`(\w+)`', read(f'docs/api/{name}.md'))
            missing = {n for n in public if not n.isupper()} - anchors
            missing -= set(written)
            assert not missing, f'docs/api/{name}.md lacks {missing}'

    def test_page_reader(self):
        page = Page(
            '<link rel="stylesheet" href="//a/b.css"><img src="c.png" id="d">'
            '<a href="e.html#f"></a><script src="https://g"></script>'
        )
        assert page.loads == {'//a/b.css', 'c.png', 'https://g'}
        assert page.links == {'e.html#f'}
        assert 'd' in page.anchors
