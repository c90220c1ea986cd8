"""A process in which Triton's interpreter runs the kernels."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch


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
