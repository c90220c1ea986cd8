import math
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from mmea.errors import UserError
from mmea.registry import HOOKS

__all__ = ['FiniteLossHook']


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop before a loss that is not finite reaches the weights.

    mmengine trains on, and writes weights of NaN over the good ones. Every
    training of mmea's commands has this hook; named in ``custom_hooks`` it
    takes arguments.

    Under AMP a loss scaler skips such steps itself and lowers its scale, which
    is no fault until it has gone on for ``patience`` iterations.

    Args:
        skip (bool): Leave out the batch, with a warning, and go on.
            Default: False.
        patience (int): Batches in a row that may be left out, by ``skip`` or
            by a loss scaler, before the training stops. Default: 50.

    Raises:
        UserError: The loss, or a weight that a checkpoint is about to hold,
            is not finite.
    """

    priority = 'VERY_HIGH'

    def __init__(self, skip: bool = False, patience: int = 50) -> None:
        self.skip, self.patience = skip, patience
        self._in_a_row = 0
        self._batch: Any = None

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and not len(loop.dataloader):
            raise UserError(
                f'train_dataloader has {len(loop.dataloader.dataset)} samples '
                f'for batches of {loop.dataloader.batch_size} and '
                'drop_last=True, so that an epoch has no iteration; lower '
                'batch_size'
            )
        found = runner.optim_wrapper
        several = isinstance(found, OptimWrapperDict)
        for wrapper in found.values() if several else [found]:
            wrapper.update_params = self._guarded(runner, wrapper)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        self._batch = data_batch

    def _guarded(self, runner: Runner, wrapper: OptimWrapper) -> Callable:
        update = wrapper.update_params

        def update_params(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            bad = ~torch.isfinite(loss.detach()).all()
            if self.skip:  # all processes, or those that go on would wait
                bad = bad.int()
                all_reduce(bad)
            if not bad:
                self._in_a_row = 0
                return update(loss, *args, **kwargs)
            scaler = getattr(wrapper, 'loss_scaler', None)
            scaled = scaler is not None and scaler.is_enabled()
            self._in_a_row += 1
            if not (self.skip or scaled) or self._in_a_row > self.patience:
                raise UserError(self._tell(runner, wrapper, loss))
            if not self.skip:
                return update(loss, *args, **kwargs)
            runner.logger.warning(
                f'iteration {runner.iter + 1} is left out: its loss is '
                f'{loss.item()} (images: {_images(self._batch)})'
            )
            return None

        return update_params

    def _tell(
        self, runner: Runner, wrapper: OptimWrapper, loss: Tensor
    ) -> str:
        rates = {f'{rate:.3g}' for rate in wrapper.get_lr()['lr']}
        text = (
            f'the loss is {loss.item()} at iteration {runner.iter + 1}, with '
            f'the learning rate {", ".join(sorted(rates))}; '
        )
        if loss.requires_grad:
            wrapper.zero_grad()
            loss.backward()
            text += _gradients(runner.model)
        return text + (
            f'images: {_images(self._batch)}. The checkpoints that were '
            'written stay. Lower optim_wrapper.optimizer.lr, clip gradients '
            '(optim_wrapper.clip_grad.max_norm), look at these images, or '
            'leave such batches out: '
            "custom_hooks=[dict(type='mmea.FiniteLossHook', skip=True)]"
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # A gradient that overflows behind a finite loss shows here.
        for name, value in checkpoint.get('state_dict', {}).items():
            if value.is_floating_point() and value.isnan().any():
                raise UserError(
                    f'the weight {name} is NaN at iteration {runner.iter}: no '
                    'checkpoint was written, and those before stay; lower '
                    'optim_wrapper.optimizer.lr or clip gradients '
                    '(optim_wrapper.clip_grad.max_norm)'
                )


def _gradients(model: torch.nn.Module) -> str:
    """Say where gradients are largest, and how many are not finite."""
    norms = {
        name: float(p.grad.norm())
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    finite = {name: n for name, n in norms.items() if math.isfinite(n)}
    text = ''
    if finite:
        name = max(finite, key=lambda name: finite[name])
        text = f'the largest gradient is that of {name} ({finite[name]:.3g}), '
    bad = [name for name in norms if name not in finite]
    if bad:
        text += (
            f'{len(bad)} of {len(norms)} are not finite (such as {bad[-1]}); '
        )
    return text


def _images(batch: Any) -> str:
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    paths = [
        str(path)
        for sample in samples or ()
        if (path := getattr(sample, 'img_path', None))
    ]
    return ', '.join(paths[:8]) or 'unknown'
