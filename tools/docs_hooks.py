"""What the site adds to mkdocs: pages of files outside docs/, and references.

A link out of docs/ works in a checkout. So that it works in the site too, each
file that is linked becomes a page there, and what that links to in turn.
"""

import os
import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r'(^```.*?^```|`[^`\n]*`)', re.M | re.S)
LINK = re.compile(r'(?:(?<=\]\()|(?<=src="))(?!\w+:)[^)\s#"]+')
ROLE = re.compile(r':(?:class|func|meth|mod|data):`~?([\w.]+)`')
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.yml': 'yaml'}

#: The pages that were added: place in the site -> file or folder.
added = {}


def on_files(files, config):
    """Add a page for each file outside docs/ that a page links to."""
    added.clear()
    todo = [ROOT / 'docs' / f.src_uri for f in files.documentation_pages()]
    while todo:
        source = todo.pop()
        if source.suffix == '.md':
            names = LINK.findall(
                ''.join(CODE.split(source.read_text('utf-8'))[::2])
            )
        else:
            names = _names(source) if source.is_dir() else ()
        for target in (_target(source, name) for name in names):
            place = _place(target)
            if target.exists() and place.startswith('repository/'):
                if place not in added:
                    added[place] = target
                    todo.append(target)
    for place, source in added.items():
        page = _page(source) if place.endswith('.md') else source.read_bytes()
        files.append(File.generated(config, place, content=page))
    return files


def on_page_markdown(markdown, page, **_):
    """Let links to files of the repository lead to their places."""
    here = page.file.src_uri
    source = added.get(here, ROOT / 'docs' / here)

    def rewrite(link):
        place = _place(_target(source, link[0]))
        return os.path.relpath(place, os.path.dirname(here))

    pieces = CODE.split(markdown)
    pieces[::2] = [LINK.sub(rewrite, piece) for piece in pieces[::2]]
    return ''.join(pieces)


def _target(source: Path, link: str) -> Path:
    folder = source if source.is_dir() else source.parent
    target = Path(os.path.normpath(folder / link))
    readme = target / 'README.md'
    return readme if readme.is_file() else target


def _place(target: Path) -> str:
    """Where in the site a file or a folder of the repository is."""
    path = os.path.relpath(target, ROOT)
    if path.startswith('docs/'):
        return path[len('docs/') :]
    if target.is_dir():
        return f'repository/{path}/index.md'
    is_code = target.suffix not in ('.jpg', '.md', '.png', '.svg')
    return f'repository/{path}{".md" * is_code}'


def _names(folder: Path) -> list[str]:
    return sorted(n for n in os.listdir(folder) if n != '__pycache__')


def _page(source: Path) -> str:
    if source.suffix == '.md':
        return source.read_text('utf-8')
    # The search is for what explains the code.
    head = '---\nsearch: {exclude: true}\n---\n'
    head += f'# {os.path.relpath(source, ROOT)}\n\n'
    if source.is_dir():
        return head + '\n'.join(f'* [{n}]({n})' for n in _names(source))
    language = LANGUAGES.get(source.suffix, 'text')
    return f'{head}````{language}\n{source.read_text("utf-8")}````\n'


class Docstrings(griffe.Extension):
    """Turn what mmea's docstrings have of reStructuredText into Markdown."""

    def on_object(self, *, obj, **_):
        if obj.is_alias or not obj.docstring:
            return

        def refer(role):
            try:
                path = obj.resolve(role[1])
            except griffe.NameResolutionError:
                path = role[1]
            return (
                f'<autoref identifier="{path}" optional>`{role[1]}`</autoref>'
            )

        text = ROLE.sub(refer, obj.docstring.value)
        text = text.replace('.. math::\n', '\n').replace('::\n', ':\n')
        obj.docstring.value = text
