"""A hook that ends a training by SIGKILL, as a file of a project."""

KILLER = """
import os
import signal

from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Killer(Hook):
    '''SIGKILL before an iteration, or half-way through saving a file.'''

    def __init__(self, iteration=None, saving=None):
        self.iteration = iteration
        if saving:
            def put(backend, obj, path):
                if not path.endswith(saving):
                    return write(backend, obj, path)
                write(backend, obj[:len(obj) // 2], path)
                os.kill(os.getpid(), signal.SIGKILL)

            write, LocalBackend.put = LocalBackend.put, put

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)
"""
