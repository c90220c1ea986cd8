"""A project of its own, outside the checkout, with a tiny data set."""

import gc
import multiprocessing
import os
import runpy
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yapf  # noqa: F401, writes its cache before several workers read it

import mmea  # noqa: F401, lets mmcv find its ops, whoever imports it first

# `make test` runs one test per core; threads that wait for each other would
# only get in the way. Subprocesses inherit it.
os.environ.setdefault('OMP_NUM_THREADS', '1')

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
_base_ = __import__('mmea').config('ea_fpn_ade20k.py')
norm_cfg = dict(type='GN', num_groups=2)
model = dict(
    data_preprocessor=dict(size=(32, 48)),
    backbone=dict(depth=18, stem_channels=8, base_channels=4, init_cfg=None,
                  norm_cfg=norm_cfg),
    neck=dict(in_channels=[4, 8, 16, 32], out_channels=8),
    decode_head=dict(in_channels=[8] * 4, channels=8, norm_cfg=norm_cfg,
                     dropout_ratio=0, attention=dict(norm_cfg=norm_cfg)))
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')]
test_pipeline = pipeline
data = dict(dataset=dict(data_root='data', pipeline=pipeline,
                         metainfo=dict(things=range(2))),
            num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=4, sampler=dict(shuffle=False), **data)
val_dataloader = data
test_dataloader = data
val_evaluator = dict(_delete_=True, type='mmea.PresentClassIoUMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(_delete_=True, type='OptimWrapper',
                     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
param_scheduler = [dict(type='PolyLR', power=0.9, end=100, by_epoch=False)]
train_cfg = dict(max_iters=4, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
randomness = dict(seed=0)
"""


def pytest_collection_modifyitems(items):
    """Begin with the commands, which take longest: none is left for last."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def write_images(root: Path, split: str, number: int):
    """ADE20K's layout: class 1 is dark, class 2 bright, 0 is ignored."""
    rng = np.random.default_rng(number)
    for folder in ('images', 'annotations'):
        (root / folder / split).mkdir(parents=True)
    for i in range(number):
        labels = np.zeros((32, 48), np.uint8)
        labels[:, :40] = 1
        labels[rng.integers(5, 25) :, :40] = 2
        image = np.repeat(100 * labels[..., None], 3, 2)
        image = image + rng.integers(0, 50, image.shape)
        cv2.imwrite(f'{root}/images/{split}/{i}.jpg', image)
        cv2.imwrite(f'{root}/annotations/{split}/{i}.png', labels)


def pytest_collection_finish():
    # mmengine collects garbage with each data set that it builds; the modules
    # are none, and to look through them takes longer than most tests.
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def unformatted_configs():
    """What mmengine writes down, it hands to yapf: most of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        # mmengine imports it early or late, by its version.
        for module in ('mmengine.config.config', 'yapf.yapflib.yapf_api'):
            patch.setattr(
                f'{module}.FormatCode',
                lambda text, **_: (text, True),
                raising=False,
            )
        yield


@pytest.fixture(autouse=True, scope='session')
def cache_of_its_own(tmp_path_factory):
    """What is remembered of data sets of tests is not the user's."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            'TORCH_HOME', os.environ.get('TORCH_HOME', f'{cache}/torch')
        )
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(autouse=True)
def no_scope_of_another_test():
    """A default scope outlives the test that sets it."""
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture
def safe(monkeypatch):
    """The commands' safe loading of checkpoints, undone afterwards."""
    from mmengine.runner.checkpoint import CheckpointLoader

    from mmea.engine.checkpoint import use_safe_loading

    monkeypatch.setattr(
        CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy()
    )
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    use_safe_loading()


HOLD = """
import sys
from mmea.engine.lock import lock_folder
lock = lock_folder(sys.argv[1], 'training')
print('held', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Have another process hold a folder; it ends with the test."""
    with ExitStack() as stack:

        def start(folder) -> subprocess.Popen:
            other = subprocess.Popen(
                [sys.executable, '-c', HOLD, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.callback(other.wait)
            stack.callback(other.kill)
            assert other.stdout.readline() == b'held\n'
            return other

        yield start


def write_project(root: Path):
    pytest.importorskip('mmseg')
    write_images(root / 'data', 'training', 8)
    write_images(root / 'data', 'validation', 3)
    (root / 'tiny.py').write_text(CONFIG)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The folder, which is the working directory too; config: tiny.py."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(main, *args):
    """Call a command's main() as if in a process of its own.

    mmengine keeps its loggers and visualisers per process, under names that
    a second Runner would find taken.
    """
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    named = [MMLogger, MessageHub, DefaultScope]
    for cls in (*named, Visualizer, *Visualizer.__subclasses__()):
        cls._instance_dict.clear()
    main(list(map(str, args)))


def tool(name):
    """A script of tools/, to be called as if it were its main()."""

    def main(argv):
        path = str(ROOT / 'tools' / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('sys.argv', [path, *argv])
            runpy.run_path(path, run_name='__main__')

    return main


@pytest.fixture
def run():
    return call


@pytest.fixture(scope='session')
def processes():
    """A context for them: forks of a server that has imported and run nothing.

    Of a fork of this process the gradients may be refused: torch's autograd,
    once it has started threads, does not survive one, nor does CUDA.
    """
    import torch

    context = torch.multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmea.models'])
    return context


def _missing(what: str) -> None:
    """Skip, or fail where a browser has to be there."""
    if os.environ.get('MMEA_REQUIRE_BROWSER') == '1':
        pytest.fail(f'MMEA_REQUIRE_BROWSER=1, but there is no {what}')
    pytest.skip(f'no {what}')


@pytest.fixture(scope='module')
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing('playwright; it is in the extra dev')
    path = shutil.which('chromium') or shutil.which('chromium-browser')
    if path is None:
        _missing('chromium (Debian: apt install chromium)')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def free_port() -> str:
    """One that no other test, or checkout, listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def _call_ranked(rank, number, port, folder, environ, main, args):
    os.chdir(folder)
    os.environ.update(environ)
    address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(number), **address
    )
    call(main, *args)


@pytest.fixture
def run_apart(processes):
    """Call a command's main() in processes of its own; their exit codes."""

    def start(main, *args, number=1):
        shared = free_port(), os.getcwd(), dict(os.environ), main, args
        started = [
            processes.Process(
                target=_call_ranked, args=(rank, number, *shared)
            )
            for rank in range(number)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        return [process.exitcode for process in started]

    return start


@pytest.fixture(scope='session')
def interpreter():
    """Call a function of a test module where TRITON_INTERPRET is set.

    It has to be before triton is imported, and would change all other tests:
    so elsewhere. What torch allocates there is NaN until it is written.
    """
    pytest.importorskip('triton')
    context = multiprocessing.get_context('spawn')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRITON_INTERPRET', '1')
        pool = ProcessPoolExecutor(1, context)
        pool.submit(torch.set_num_threads, 1).result()  # it has started
    with pool:
        # With it, NaN is what torch.empty() and its like return.
        pool.submit(torch.use_deterministic_algorithms, True).result()
        yield lambda function, *args: pool.submit(function, *args).result()
