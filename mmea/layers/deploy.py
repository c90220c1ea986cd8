from torch import nn

from ._forms import TwoForms

__all__ = ['switch_to_deploy']


def switch_to_deploy(model: nn.Module) -> list[str]:
    """Fold every external attention of a model for inference. In place.

    See :meth:`ExternalAttention2d.switch_to_deploy` and that of
    :class:`MultiheadExternalAttention`. Where one of them cannot be folded
    exactly, none is.

    Args:
        model (nn.Module): Trained; its layers go into eval mode.

    Returns:
        list[str]: Names of the layers that are folded now.

    Raises:
        ValueError: A layer cannot be folded; it is named, and why.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmea.layers import ExternalAttention2d, switch_to_deploy
        >>> model = nn.Sequential(nn.Conv2d(3, 64, 1), ExternalAttention2d(64))
        >>> x = torch.randn(2, 3, 7, 5)
        >>> y = model.eval()(x)
        >>> switch_to_deploy(model)
        ['1']
        >>> torch.allclose(model(x), y, atol=1e-5)
        True
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, TwoForms)
    }
    for name, layer in layers.items():
        try:
            layer.check_foldable()
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None
    for layer in layers.values():
        layer.switch_to_deploy()
    return list(layers)
