from typing import Any

from mmengine.dist import broadcast
from torch import Tensor, nn

from mmea.registry import MODEL_WRAPPERS

__all__ = ['GANDistributed']


@MODEL_WRAPPERS.register_module()
class GANDistributed(nn.Module):
    """Hold a GAN in a training of several processes.

    In the place of DDP, which takes one backward pass for one forward pass of
    the whole model: ``model_wrapper_cfg=dict(type='mmea.GANDistributed')``.
    All processes begin with the weights of the first; the GAN itself averages
    the gradients of a network before its step.

    Args:
        module (GAN): On its device.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module: Any = module
        for tensor in module.state_dict().values():
            broadcast(tensor)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Train both networks, see :meth:`GAN.train_step`."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> Any:
        """Make an image for each data sample."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Make an image for each data sample."""
        return self.module.test_step(data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)
