from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmea.registry import HOOKS

__all__ = ['LastValidationHook']


@HOOKS.register_module()
class LastValidationHook(Hook):
    """Validate if a resumed training was at its end already.

    The last checkpoint is written before the last validation: what is broken
    off in between, a resumed training would not make up for.
    """

    # Before what other hooks do at the end.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._trained = False

    def before_train_iter(self, *args: Any, **kwargs: Any) -> None:
        self._trained = True

    def after_train(self, runner: Runner) -> None:
        if not self._trained and runner.val_loop is not None:
            runner.val_loop.run()
