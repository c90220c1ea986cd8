import random
import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner.utils import set_random_seed

from mmea.registry import HOOKS

__all__ = ['PairedRunHook']


@HOOKS.register_module()
class PairedRunHook(Hook):
    """Give runs of one seed the same start and the same random numbers.

    Networks that differ in one part draw different numbers of random values,
    so that with one seed all that they have in common differs too. Here what
    a network shares with ``host``, by name and shape, starts as a ``host`` of
    that seed does; what is drawn in an iteration depends on the seed and the
    iteration alone, also after the run was resumed. Order and augmentation of
    the images are those of the Runner's seed as ever; a run that is resumed
    loads the images that it has seen once more, for the processes that load
    them to go on with the random numbers that they would have had.

    The log gets ``peak_memory``, the most that the process has held, in MB.

    Args:
        host (dict): Config of the network without the part that differs.
    """

    def __init__(self, host: dict) -> None:
        self.host = host

    def before_train(self, runner: Runner) -> None:
        batches = getattr(runner.train_loop, 'dataloader_iterator', None)
        if batches is not None:
            own = _Batches(batches, runner.seed)
            runner.train_loop.dataloader_iterator = own
        if runner.iter:  # resumed
            return
        set_random_seed(runner.seed)
        host = MODELS.build(self.host)
        if hasattr(host, 'init_weights'):
            host.init_weights()
        if runner._load_from:
            load_checkpoint(host, runner._load_from, 'cpu')
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        own = model.state_dict()
        common = {
            name: value
            for name, value in host.state_dict().items()
            if name in own and own[name].shape == value.shape
        }
        model.load_state_dict(common, strict=False)
        runner.logger.info(
            f'{len(common)} of {len(own)} entries start as in every run of '
            f'seed {runner.seed}'
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        _set_seed(runner.seed, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        if torch.cuda.is_available():
            held = float(torch.cuda.max_memory_allocated())
        else:
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            held *= 1 if sys.platform == 'darwin' else 1024
        runner.message_hub.update_scalar('train/peak_memory', held / 1e6)


class _Batches:
    """Load each batch as ever, and as in a run that was not broken off.

    mmengine from 0.10.8 on passes by what a resumed run has seen by moving the
    sampler alone, and the processes that load begin their random numbers anew;
    where the training's own process loads, they are the training's.
    """

    def __init__(self, batches: Iterator, seed: int) -> None:
        self._batches, self._seed, self._number = batches, seed, 0

    def __next__(self) -> Any:
        _set_seed(self._seed, self._number)
        self._number += 1
        return next(self._batches)

    def skip_iter(self, number: int) -> None:
        for _ in range(number):
            next(self)


def _set_seed(seed: int, iteration: int) -> None:
    seed = seed * 1_000_003 + iteration
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
