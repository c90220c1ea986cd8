"""The traps of the stack, and the command that mends each.

A trap is a function of :class:`Facts` that returns a :class:`Trap` or None;
``@trap`` puts it on the list.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mmea.mmcv_ops.pip_commands import compile_command, pair

from .facts import Package

__all__ = ['TRAPS', 'Facts', 'Trap', 'find_traps']


@dataclass(frozen=True)
class Facts:
    """What the traps look at.

    Args:
        packages (dict[str, Package]): Of :func:`read_packages`.
        modules (frozenset[str]): Those of ftfy, regex and pkg_resources that
            can be imported.
        compiled (bool): Whether mmcv brings ops of its own.
        driver (str | None): Of NVIDIA, where it is loaded.
        cuda (str | None): That torch was built for.
    """

    packages: dict[str, Package]
    modules: frozenset[str] = frozenset()
    compiled: bool = False
    driver: str | None = None
    cuda: str | None = None

    def __getitem__(self, name: str) -> Package:
        return self.packages.get(name) or Package(name)

    def has(self, distribution: str) -> bool:
        return any(distribution in p.versions for p in self.packages.values())


@dataclass(frozen=True)
class Trap:
    """What is wrong, and the command that mends it."""

    what: str
    mend: str


Finder = Callable[[Facts], Trap | None]
TRAPS: list[Finder] = []

NEW = 'python -m venv new && new/bin/pip install "mmea[onedl,onedl-det,cls]"'
#: What a build for numpy 1 says beside numpy 2, and one for 2 beside 1.
ABI = re.compile(
    r'numpy\.core\.multiarray failed|_ARRAY_API not found|numpy\.dtype size '
    'changed|compiled using NumPy 1|numpy._core'
)


def trap(finder: Finder) -> Finder:
    TRAPS.append(finder)
    return finder


def find_traps(facts: Facts) -> list[Trap]:
    """Return the traps that are here; what else is broken, if none is."""
    found = [t for finder in TRAPS if (t := finder(facts))]
    return found or [
        Trap(f'{p.name} cannot be imported: {p.error}', _install(facts, p))
        for p in facts.packages.values()
        if p.error
    ]


def _install(facts: Facts, package: Package) -> str:
    missing = re.match(r"ModuleNotFoundError: No module named '(\w+)", (
        package.error
    ))  # fmt: skip
    if missing and missing[1] not in facts.packages:
        return f'pip install {missing[1]}'
    pins = [f'{name}=={v}' for name, v in package.versions.items()]
    return f'pip install --force-reinstall --no-deps {" ".join(pins)}'


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r'\d+', version)[:2]))


@trap
def old_torch(facts: Facts) -> Trap | None:
    version = facts['torch'].version
    if not version or _numbers(version) >= (2, 6):
        return None
    return Trap(
        f'torch {version} is older than 2.6, which mmea needs; compiled ops '
        'of this environment would not fit a newer one',
        NEW,
    )


@trap
def torch_pair(facts: Facts) -> Trap | None:
    torch, vision = facts['torch'], facts['torchvision']
    if not (torch.version and vision.version) or torch.error:
        return None
    fitting = pair(torch.version).rpartition('=')[2]
    if _numbers(vision.version) == _numbers(fitting) and not vision.error:
        return None
    return Trap(
        f'torchvision {vision.version} does not fit torch {torch.version}'
        + (f' ({vision.error})' if vision.error else ''),
        f'pip install {pair(torch.version)}',
    )


@trap
def both_distributions(facts: Facts) -> Trap | None:
    several = [
        p.versions
        for name, p in facts.packages.items()
        if name.startswith('mm') and len(p.versions) > 1
    ]
    if not several:
        return None
    names = [name for versions in several for name in versions]
    # The first is onedl's, else what has more in it.
    kept = [next(iter(versions.items())) for versions in several]
    return Trap(
        f'{", ".join(names)} are installed over each other, under the same '
        'import names',
        f'pip uninstall -y {" ".join(names)} && pip install '
        + ' '.join(f'{name}=={version}' for name, version in kept),
    )


@trap
def mmcv_beyond_the_pin(facts: Facts) -> Trap | None:
    mmcv = facts['mmcv']
    stock = [n for n in ('mmdet', 'mmsegmentation') if facts.has(n)]
    if not stock or not mmcv.version or _numbers(mmcv.version) < (2, 2):
        return None
    return Trap(
        f'{" and ".join(stock)} of the stock distribution refuse mmcv '
        f'{mmcv.version}: below 2.2.0 is allowed',
        f'pip uninstall -y {" ".join(mmcv.versions)} && pip install '
        'mmcv-lite==2.1.0',
    )


@trap
def no_ops(facts: Facts) -> Trap | None:
    mmcv, torch = facts['mmcv'], facts['torch']
    if not facts['mmcv._ext'].error or torch.error:
        return None
    if facts.compiled:
        return Trap(
            f"mmcv's compiled ops do not fit torch {torch.version} "
            f'({facts["mmcv._ext"].error})',
            compile_command(*next(iter(mmcv.versions.items()))),
        )
    if facts['torchvision'].version:
        return None  # it does not fit, which is told already
    return Trap(
        'mmcv has no compiled ops, and torchvision, whose ops can take '
        'their place, is missing',
        f'pip install {pair(torch.version)}',
    )


@trap
def no_pkg_resources(facts: Facts) -> Trap | None:
    if not facts.has('mmengine') or 'pkg_resources' in facts.modules:
        return None
    return Trap(
        'mmengine of the stock distribution imports pkg_resources, which '
        'this setuptools does not have (82 and later) or cannot import '
        '(before 66, on Python 3.12)',
        'pip install "setuptools>=77.0.3,<82"',
    )


@trap
def undeclared(facts: Facts) -> Trap | None:
    missing = [n for n in ('ftfy', 'regex') if n not in facts.modules]
    if not facts.has('mmsegmentation') or not missing:
        return None
    return Trap(
        f'mmsegmentation imports {" and ".join(missing)} and does not '
        'require it',
        f'pip install {" ".join(missing)}',
    )


@trap
def built_for_another_numpy(facts: Facts) -> Trap | None:
    names = [
        next(iter(p.versions), p.name)
        for p in facts.packages.values()
        if ABI.search(p.error)
    ]
    if not names:
        return None
    return Trap(
        f'{", ".join(names)} was built for another numpy than '
        f'{facts["numpy"].version}',
        f'pip install --upgrade {" ".join(names)}',
    )


@trap
def half_written_grammar(facts: Facts) -> Trap | None:
    if not facts['yapf'].error.startswith(('EOFError', 'UnpicklingError')):
        return None
    return Trap(
        'the grammar that yapf keeps in its cache is half written: several '
        'processes began at once, right after it was installed',
        'python -c "import shutil, platformdirs; '
        "shutil.rmtree(platformdirs.user_cache_dir('YAPF', 'Google'))\"",
    )


@trap
def new_transformers(facts: Facts) -> Trap | None:
    # Its networks of two modalities derive from what it did not find there.
    if not facts['mmpretrain'].error.endswith('NoneType takes no arguments'):
        return None
    return Trap(
        'mmpretrain cannot be imported beside transformers 5 and later',
        'pip uninstall -y transformers',
    )


@trap
def opencv_over_opencv(facts: Facts) -> Trap | None:
    versions = facts['cv2'].versions
    if len(set(versions.values())) < 2:
        return None  # several of one version have the same modules
    newest = max(versions.values(), key=_numbers)
    names = [n for n, version in versions.items() if version == newest]
    return Trap(
        'several OpenCVs of different versions are installed over each '
        f'other: {", ".join(f"{n} {v}" for n, v in versions.items())}',
        f'pip uninstall -y {" ".join(versions)} && pip install '
        f'{names[0]}=={newest}',
    )


@trap
def opencv_without_a_screen(facts: Facts) -> Trap | None:
    cv2 = facts['cv2']
    library = re.search(r'lib(GL|Xext|SM|xcb|gthread)[\w.-]*\.so', cv2.error)
    if not library:
        return None
    return Trap(
        f'OpenCV wants {library[0]} of a desktop, which this machine lacks',
        f'pip uninstall -y {" ".join(cv2.versions)} && pip install '
        f'opencv-python-headless=={cv2.version}',
    )


@trap
def torch_without_cuda(facts: Facts) -> Trap | None:
    torch = facts['torch']
    if not facts.driver or facts.cuda or not torch.version or torch.error:
        return None
    return Trap(
        f'torch {torch.version} was built without CUDA, and this machine has '
        f"NVIDIA's driver {facts.driver}: the GPU is not used",
        f'pip install --force-reinstall {pair(torch.version)}',
    )
