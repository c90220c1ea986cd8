"""What of a built model is attention, and what a forward pass takes."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from mmea.layers import AttentionBlock2d, MultiheadExternalAttention
from mmea.profiling import count_macs

from .adapters import TokenAttention
from .rules import has_name, kind_of

__all__ = ['attention_layers', 'count_forward', 'looks_like_attention']

# Parts of names; the last three are DANet's, EMANet's and PSANet's.
_LOOKS_LIKE_ATTENTION = (
    'Attention',
    'Attn',
    'MSA',
    'NonLocal',
    'CAM',
    'EMAModule',
    'PSAMask',
)
_OURS = AttentionBlock2d, MultiheadExternalAttention, TokenAttention

Counted = TypeVar('Counted')


def looks_like_attention(module: nn.Module) -> bool:
    """Tell whether a class, or a base of it, is called as attention is."""
    names = [base.__name__ for base in type(module).__mro__]
    return any(
        part in name for name in names for part in _LOOKS_LIKE_ATTENTION
    )


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Find the attention of a model, by mmea or by others.

    Returns:
        dict[str, nn.Module]: By name, in the model's order. Of what lies in
        each other, the outermost that is known; a host that is only called
        like attention is none if there is attention in it.
    """
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, _OURS) or kind_of(type(child)) is not None:
            found[name] = child
            continue
        inner = attention_layers(child)
        if not inner and looks_like_attention(child):
            found[name] = child
        found |= {f'{name}.{key}': layer for key, layer in inner.items()}
    return found


@torch.no_grad()
def count_forward(
    model: nn.Module,
    size: tuple[int, int],
    count: Callable[[Callable], Counted] = count_macs,  # type: ignore[assignment]
    *,
    channels: int = 3,
) -> Counted:
    """Count on one image through the model, in eval mode, head included.

    Args:
        model (nn.Module): Of mmseg, mmdet, mmpretrain or plain torch.
        size (tuple[int, int]): Height and width.
        count (Callable): Gets the forward pass as a function; what it
            returns comes back. Default: :func:`mmea.profiling.count_macs`.
        channels (int): Of the image. Default: 3.
    """
    device = next(model.parameters()).device
    args: list[Any] = [torch.zeros(1, channels, *size, device=device)]
    kwargs = {}
    if 'mode' in inspect.signature(model.forward).parameters:
        kwargs['mode'] = 'tensor'
    if has_name(type(model), 'mmdet.models.detectors.base.BaseDetector'):
        from mmdet.structures import DetDataSample

        names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        meta: dict[str, Any] = dict.fromkeys(names, tuple(size))
        meta['scale_factor'] = (1.0, 1.0)
        args.append([DetDataSample(metainfo=meta)])
    modes = {module: module.training for module in model.modules()}
    model.eval()
    # torch's fused attention is one operation, which nobody counts.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return count(lambda: model(*args, **kwargs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode
