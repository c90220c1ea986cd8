from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmea.registry import HOOKS

__all__ = ['FirstValidationHook']


@HOOKS.register_module()
class FirstValidationHook(Hook):
    """Validate before the first iteration, too.

    So that a log tells what the training has changed; a resumed one goes on
    without.
    """

    # Not before_train: by then all other hooks are ready.
    def before_train_epoch(self, runner: Runner) -> None:
        if runner.iter == 0 and runner.val_loop is not None:
            runner.val_loop.run()
