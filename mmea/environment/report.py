"""All that ``mmea env`` tells, in one dict."""

import json
import platform
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmea

from .facts import is_found, read_packages, try_import
from .machine import read_folders, read_machine, read_variables
from .traps import Facts, find_traps

__all__ = ['report']


def report() -> dict[str, Any]:
    """Look around: packages, machine, folders, and the traps found here.

    Returns:
        dict[str, Any]: Of plain values, for JSON. ``traps`` is a list of
        dicts with ``what`` and ``mend``, a shell command.
    """
    packages = read_packages()
    torch = sys.modules.get('torch')
    if packages['torch'].error:
        torch = None
    machine = read_machine(torch)
    facts = Facts(
        packages,
        modules=frozenset(
            name
            for name in ('ftfy', 'regex', 'pkg_resources')
            if not try_import(name)
        ),
        compiled=_is_compiled(),
        driver=machine['nvidia_driver'],
        cuda=machine.get('cuda'),
    )
    shown = {name: p for name, p in packages.items() if name != 'mmcv._ext'}
    return dict(
        mmea=dict(version=mmea.__version__, installed=_how_installed()),
        python=platform.python_version(),
        packages={
            name: dict(versions=p.versions, error=p.error)
            for name, p in shown.items()
        },
        stack=_stack(facts),
        ops=_ops(facts),
        machine=machine,
        folders=read_folders(torch),
        variables=read_variables(),
        traps=[vars(trap) for trap in find_traps(facts)],
    )


def _how_installed() -> str:
    """Say where mmea is, and whether pip knows of it."""
    here = Path(mmea.__file__).parent
    # A checkout in the working directory has an egg-info of its own.
    found = [d for d in distributions(name='mmea') if d.read_text('INSTALLER')]
    urls = [json.loads(d.read_text('direct_url.json') or '{}') for d in found]
    if any(
        url.get('dir_info', {}).get('editable')
        and url['url'] == here.parent.as_uri()
        for url in urls
    ):
        how = 'editable'
    elif any(Path(str(d.locate_file('mmea'))) == here for d in found):
        how = 'by pip'
    else:
        how = 'not by pip'
    return f'{how}, in {here}'


def _is_compiled() -> bool:
    if not is_found('mmcv._ext'):
        return False
    spec = find_spec('mmcv._ext')
    return bool(spec and (spec.origin or '').endswith('.so'))


def _stack(facts: Facts) -> str:
    names = [
        name
        for package in facts.packages.values()
        if package.name.startswith('mm')
        for name in package.versions
    ]
    onedl = [name.startswith('onedl-') for name in names]
    if not names:
        return 'none'
    if all(onedl):
        return 'onedl'
    return 'onedl and openmmlab' if any(onedl) else 'openmmlab'


def _ops(facts: Facts) -> str:
    if 'mmcv._ext' not in facts.packages or facts['mmcv._ext'].error:
        return 'none'
    if facts.compiled:
        return 'compiled'
    return f'torchvision {facts["torchvision"].version}'
