"""Which packages are here, by whom distributed, and whether they import."""

import contextlib
import io
import re
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec

__all__ = ['PACKAGES', 'Package', 'is_found', 'read_packages', 'try_import']

#: What is imported, and the distributions that may have brought it. Of mmseg,
#: mmdet and mmpretrain that is all that a config asks for.
PACKAGES = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'cv2': (
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    ),
    'pycocotools': ('pycocotools',),
    'yapf': ('yapf',),  # mmengine formats configs by it
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}
IMPORTED = {
    'pycocotools': 'pycocotools.mask',
    **{name: f'{name}.models' for name in ('mmseg', 'mmdet', 'mmpretrain')},
}


@dataclass(frozen=True)
class Package:
    """A package under its import name.

    Args:
        name (str): As it is imported.
        versions (dict[str, str]): Of each distribution that brings it; none
            where it is not installed.
        error (str): What importing it raised, in one line. Default: ''.
    """

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    error: str = ''

    @property
    def version(self) -> str:
        """Of the first distribution; '' where there is none."""
        return next(iter(self.versions.values()), '')


def read_packages() -> dict[str, Package]:
    """Look for the packages of the stack and import them.

    Returns:
        dict[str, Package]: By import name, all of :data:`PACKAGES`, and
        ``mmcv._ext``, mmcv's ops, whoever serves them.
    """
    installed = _installed()
    found = {}
    for name, known in PACKAGES.items():
        versions = {d: installed[d] for d in known if d in installed}
        error = ''
        # One without metadata, on PYTHONPATH, is there too.
        if versions or is_found(name):
            error = try_import(IMPORTED.get(name, name))
        found[name] = Package(name, versions, error)
    if found['mmcv'].versions and not found['mmcv'].error:
        found['mmcv._ext'] = Package('mmcv._ext', {}, try_import('mmcv._ext'))
    return found


def _installed() -> dict[str, str]:
    """Versions of all distributions by their canonical names."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']  # None, if damaged
        if name:
            canonical = re.sub('[-_.]+', '-', name).lower()
            # The first on the path is the one that is imported.
            found.setdefault(canonical, distribution.version or '')
    return found


def is_found(name: str) -> bool:
    """Tell whether there is such a module, broken or not."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def try_import(name: str) -> str:
    """Import a module in silence; return what it raised, or ''."""
    quiet = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        warnings.simplefilter('ignore')
        try:
            import_module(name)
        # A broken package raises what it likes, even SystemExit.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            text = ' '.join(str(error).split())
            return f'{type(error).__name__}: {text}'[:500]
    return ''
