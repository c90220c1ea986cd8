import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmea.registry import HOOKS

__all__ = ['FirstValidationHook']


@HOOKS.register_module()
class FirstValidationHook(Hook):
    """Tell at the end of a training what the metrics were before it.

    A run that is resumed measures nothing, and tells nothing.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.last: dict[str, float] = {}

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        if runner.iter:
            return
        loader, evaluator = (
            getattr(runner.val_loop, name)
            for name in ('dataloader', 'evaluator')
        )
        runner.model.eval()
        for batch in loader:
            found = runner.model.val_step(batch)
            evaluator.process(data_samples=found, data_batch=batch)
        self.before = evaluator.evaluate(len(loader.dataset))
        told = ', '.join(f'{k} {v:.4g}' for k, v in self.before.items())
        runner.logger.info(f'Before the training: {told}')

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self.last = metrics or {}

    def after_train(self, runner: Runner) -> None:
        told = ', '.join(
            f'{name} {value:.3g} -> {self.last[name]:.3g}'
            for name, value in self.before.items()
            if name in self.last
        )
        if told:
            runner.logger.info(f'Before and after the training: {told}')
