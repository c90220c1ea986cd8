from collections.abc import Iterator
from typing import Any

from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mmea.registry import STRATEGIES

__all__ = ['FSDPStrategy']


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """mmengine's FSDPStrategy: on CPUs too, and with torch as it is now.

    With mmengine's own, no process without a GPU starts, or one dies in its
    first checkpoint; since torch 2.1 none goes on from a checkpoint; and
    ``clip_grad`` goes by the norm of each process's part.

    Args:
        model_wrapper (dict | None): Arguments of torch's
            FullyShardedDataParallel, as a config. Default: None, the model is
            one unit.
        state_dict_cfg (str | dict): As mmengine's. Default: 'full', whole
            checkpoints, which all else reads.
        kwargs: Of mmengine's.
    """

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        state_dict_cfg: str | dict = 'full',
        **kwargs: Any,
    ) -> None:
        if get_device() == 'cpu':
            model_wrapper = dict(
                type='MMFullyShardedDataParallel', device_id='cpu'
            ) | (model_wrapper or {})
            if state_dict_cfg == 'full':
                # To move what is on the CPU there, as mmengine would, is no
                # copy, and torch frees it.
                state_dict_cfg = dict(
                    state_dict_type='FULL_STATE_DICT',
                    state_dict_config=dict(
                        type='FullStateDictConfig', rank0_only=True
                    ),
                    optim_state_dict_config=dict(
                        type='FullOptimStateDictConfig', rank0_only=True
                    ),
                )
        super().__init__(
            model_wrapper=model_wrapper,
            state_dict_cfg=state_dict_cfg,
            **kwargs,
        )

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: Any = None
    ) -> BaseOptimWrapper:
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:

            def clip_by_norm_of_all() -> None:
                norm = model.clip_grad_norm_(**wrapper.clip_grad_kwargs)
                wrapper.message_hub.update_scalar(
                    f'train/{wrapper.grad_name}', float(norm)
                )

            wrapper._clip_grad = clip_by_norm_of_all
        return wrapper

    def load_optim_state_dict(self, state_dict: dict) -> None:
        state = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model,
            self.optim_wrapper.optimizer,
            self._by_name(state_dict),
        )
        self.optim_wrapper.load_state_dict(state)

    def _by_name(self, state_dict: dict) -> dict:
        """Name what one process, or DDP, numbers."""
        names = {
            param: name.replace('_fsdp_wrapped_module.', '')
            for name, param in self.model.named_parameters()
        }
        keys = dict(
            zip(
                _params(state_dict['param_groups']),
                map(names.get, _params(self.optim_wrapper.param_groups)),
            )
        )
        return dict(
            state={keys[k]: v for k, v in state_dict['state'].items()},
            param_groups=[
                dict(group, params=[keys[key] for key in group['params']])
                for group in state_dict['param_groups']
            ],
        )


def _params(groups: list[dict]) -> Iterator[Any]:
    for group in groups:
        yield from group['params']
