from dataclasses import replace

import pytest

from mmea.environment import TRAPS, Facts, Package, find_traps

ONEDL = Facts(
    {
        name: Package(name, versions)
        for name, versions in {
            'torch': {'torch': '2.12.1+cpu'},
            'torchvision': {'torchvision': '0.27.0+cpu'},
            'numpy': {'numpy': '2.2.6'},
            'cv2': {'opencv-python': '4.12.0.88'},
            'mmengine': {'onedl-mmengine': '0.10.12'},
            'mmcv': {'onedl-mmcv': '2.3.6'},
            'mmdet': {'onedl-mmdetection': '3.5.1'},
        }.items()
    }
)


def having(facts=ONEDL, error=None, **versions):
    """Facts with other packages: a version, or those of distributions."""
    packages = dict(facts.packages)
    for name, found in versions.items():
        found = found if isinstance(found, dict) else {name: found}
        packages[name] = Package(name, found)
    for name, text in (error or {}).items():
        known = packages.get(name, Package(name))
        packages[name] = replace(known, error=text)
    return replace(facts, packages=packages)


STOCK = replace(
    having(
        mmengine='0.10.7',
        mmcv={'mmcv-lite': '2.1.0'},
        mmseg={'mmsegmentation': '1.2.2'},
        mmdet='3.3.0',
    ),
    modules=frozenset(['ftfy', 'regex', 'pkg_resources']),
)
EXT = {'mmcv._ext': 'ImportError: undefined symbol'}
CASES = [
    (
        'old_torch',
        having(torch='2.1.2', torchvision='0.16.2'),
        'torch 2.1.2 is older than 2.6',
        'python -m venv new && new/bin/pip install '
        '"mmea[onedl,onedl-det,cls]"',
    ),
    (
        'torch_pair',
        having(torchvision='0.28.0'),
        'torchvision 0.28.0 does not fit torch 2.12.1+cpu',
        'pip install torch==2.12.1 torchvision==0.27.1',
    ),
    (
        'torch_pair',
        having(error=dict(torchvision='RuntimeError: no nms')),
        'does not fit torch 2.12.1+cpu (RuntimeError: no nms)',
        'pip install torch==2.12.1 torchvision==0.27.1',
    ),
    (
        'both_distributions',
        having(mmcv={'onedl-mmcv': '2.3.6', 'mmcv-lite': '2.1.0'}),
        'onedl-mmcv, mmcv-lite are installed over each other',
        'pip uninstall -y onedl-mmcv mmcv-lite && pip install '
        'onedl-mmcv==2.3.6',
    ),
    (
        'mmcv_beyond_the_pin',
        having(STOCK, mmcv='2.2.0'),
        'mmdet and mmsegmentation of the stock distribution refuse mmcv 2.2.0',
        'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0',
    ),
    (
        'no_ops',
        having(error=EXT, torchvision={}),
        'mmcv has no compiled ops, and torchvision, whose ops can take',
        'pip install torch==2.12.1 torchvision==0.27.1',
    ),
    (
        'no_ops',
        replace(having(error=EXT), compiled=True),
        "mmcv's compiled ops do not fit torch 2.12.1+cpu (ImportError: unde",
        'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir '
        '--no-deps --force-reinstall --no-binary onedl-mmcv onedl-mmcv==2.3.6',
    ),
    (
        'no_pkg_resources',
        replace(STOCK, modules=frozenset(['ftfy', 'regex'])),
        'imports pkg_resources, which this setuptools does not have',
        'pip install "setuptools>=77.0.3,<82"',
    ),
    (
        'undeclared',
        replace(STOCK, modules=frozenset(['regex', 'pkg_resources'])),
        'mmsegmentation imports ftfy and does not require it',
        'pip install ftfy',
    ),
    (
        'built_for_another_numpy',
        having(
            error=dict(cv2='ImportError: numpy.core.multiarray failed to imp')
        ),
        'opencv-python was built for another numpy than 2.2.6',
        'pip install --upgrade opencv-python',
    ),
    (
        'half_written_grammar',
        having(yapf='0.43.0', error=dict(yapf='EOFError: Ran out of input')),
        'the grammar that yapf keeps in its cache is half written',
        'python -c "import shutil, platformdirs; '
        "shutil.rmtree(platformdirs.user_cache_dir('YAPF', 'Google'))\"",
    ),
    (
        'new_transformers',
        having(
            mmpretrain='1.2.0',
            error=dict(mmpretrain='TypeError: NoneType takes no arguments'),
        ),
        'mmpretrain cannot be imported beside transformers 5 and later',
        'pip uninstall -y transformers',
    ),
    (
        'opencv_over_opencv',
        having(
            cv2={'opencv-python': '4.9.0', 'opencv-python-headless': '4.12.0'}
        ),
        'opencv-python 4.9.0, opencv-python-headless 4.12.0',
        'pip uninstall -y opencv-python opencv-python-headless && pip '
        'install opencv-python-headless==4.12.0',
    ),
    (
        'opencv_without_a_screen',
        having(error=dict(cv2='ImportError: libGL.so.1: cannot open shared')),
        'OpenCV wants libGL.so of a desktop',
        'pip uninstall -y opencv-python && pip install '
        'opencv-python-headless==4.12.0.88',
    ),
    (
        'torch_without_cuda',
        replace(ONEDL, driver='570.86'),
        "built without CUDA, and this machine has NVIDIA's driver 570.86",
        'pip install --force-reinstall torch==2.12.1 torchvision==0.27.1',
    ),
]


@pytest.mark.parametrize(('name', 'facts', 'what', 'mend'), CASES)
def test_trap(name, facts, what, mend):
    (found,) = find_traps(facts)
    assert what in found.what
    assert found.mend == mend
    assert [t.__name__ for t in TRAPS if t(facts)] == [name]


def test_every_trap_has_a_case():
    assert {t.__name__ for t in TRAPS} == {name for name, *_ in CASES}


@pytest.mark.parametrize(
    'facts',
    [
        ONEDL,
        STOCK,
        Facts({}),
        # One version of both holds the same files.
        having(cv2={'opencv-python': '4.1', 'opencv-python-headless': '4.1'}),
        replace(ONEDL, driver='570.86', cuda='13.0'),
        # mmpretrain of onedl takes any mmcv.
        having(mmcv={'onedl-mmcv': '2.4.0'}),
    ],
)
def test_no_trap(facts):
    assert find_traps(facts) == []


@pytest.mark.parametrize(
    ('error', 'mend'),
    [
        ("ModuleNotFoundError: No module named 'tqdm.x'", 'pip install tqdm'),
        (
            "AttributeError: no 'x'",
            'pip install --force-reinstall --no-deps onedl-mmdetection==3.5.1',
        ),
    ],
)
def test_what_no_trap_explains(error, mend):
    facts = having(error=dict(mmdet=error))
    (found,) = find_traps(facts)
    assert found.what == f'mmdet cannot be imported: {error}'
    assert found.mend == mend
    # What has a name is mended first.
    (found,) = find_traps(replace(facts, driver='570.86'))
    assert 'CUDA' in found.what
