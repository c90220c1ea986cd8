from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import nn

from mmea.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ['GANOptimWrapperConstructor']

PARTS = ('generator', 'discriminator')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GANOptimWrapperConstructor:
    """Make the two optimisers of a GAN from a config of both.

    ``dict(constructor='mmea.GANOptimWrapperConstructor',
    generator=dict(optimizer=...), discriminator=dict(optimizer=...))``. Keys
    beside the two, such as ``type='AmpOptimWrapper'``, are for both.

    Args:
        optim_wrapper_cfg (dict): The config without ``constructor``.
        paramwise_cfg (dict | None): For both, too. Default: None.

    Raises:
        ValueError: One of the two has no ``optimizer``.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        self.shared = dict(optim_wrapper_cfg, paramwise_cfg=paramwise_cfg)
        self.own = {name: self.shared.pop(name, {}) for name in PARTS}
        for name, cfg in self.own.items():
            if 'optimizer' not in cfg:
                raise ValueError(
                    f'optim_wrapper.{name}.optimizer is missing; a GAN has '
                    'one optimiser for each of its networks'
                )

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        inner: Any = model.module if is_model_wrapper(model) else model
        wrappers: dict[str, Any] = {
            name: build_optim_wrapper(
                getattr(inner, name), {**self.shared, **cfg}
            )
            for name, cfg in self.own.items()
        }
        return OptimWrapperDict(**wrappers)
