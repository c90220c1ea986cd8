"""Configs that the packages of the stack ship, by their names."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from mmengine.config.utils import MODULE2PACKAGE

from mmea.errors import EXTRAS, UserError

__all__ = ['bases_by_module', 'is_stock', 'stock_config']

PACKAGES = ('mmseg', 'mmdet', 'mmpretrain')


def is_stock(name: str) -> bool:
    """Tell whether a name is one of :func:`stock_config`."""
    return name.partition(':')[0] in PACKAGES and ':' in name


def stock_config(name: str) -> str:
    """Find a config that mmseg, mmdet or mmpretrain ships.

    The package is not imported.

    Args:
        name (str): ``PACKAGE:FILE``, such as
            ``'mmdet:detr_r50_8xb2-150e_coco'``, with the folder or without;
            ``.py`` may be left out, and ``::`` is as good as ``:``.

    Returns:
        str: The absolute path.

    Raises:
        UserError: The package is not installed, or ships no such config, or
            several.
    """
    package, _, rest = name.partition(':')
    path = rest.lstrip(':').removesuffix('.py') + '.py'
    root = _root(package, name)
    names = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob('*.py')
        if '_base_' not in p.parts
    )
    if path in names:
        return str(root / path)
    found = [n for n in names if n.rpartition('/')[2] == path]
    if len(found) == 1:
        return str(root / found[0])
    number = len(found) or 'no'
    if not found:
        # Without folders: they are what people leave out.
        leaves = {n.rpartition('/')[2]: n for n in names}
        close = get_close_matches(path.rpartition('/')[2], leaves, 3)
        found = [leaves[n] for n in close]
    hint = ' or '.join(f'{package}:{n}' for n in found[:3])
    raise UserError(
        f'{package} ships {number} config{"s" * (number != "no")} {path}'
        f'{f" (did you mean {hint}?)" if hint else ""}; all are in {root}'
    )


def _root(package: str, name: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise UserError(
            f'{name} is a config of {package}, which is not installed; '
            f'install the extra {EXTRAS[package]} of mmea as docs/install.md '
            'shows'
        )
    root = Path(spec.origin).parent / '.mim' / 'configs'
    if not root.is_dir():
        raise UserError(
            f'{package} is installed without its configs: there is no {root}; '
            'name the path of a config'
        )
    return root


@contextmanager
def bases_by_module() -> Iterator[None]:
    """Let ``_base_ = 'mmseg::...'`` find mmseg, whoever distributes it.

    mmengine asks for a distribution mmsegmentation, and the onedl stack has
    none of that name. What is no distribution it looks for as a module.
    """
    before = dict(MODULE2PACKAGE)
    MODULE2PACKAGE.update({name: name for name in PACKAGES})
    try:
        yield
    finally:
        MODULE2PACKAGE.update(before)
