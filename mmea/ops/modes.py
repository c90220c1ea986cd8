"""Who is looking on: tracers, transforms, autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ['can_overwrite', 'is_traced', 'is_transformed', 'without_autocast']


def is_traced() -> bool:
    """Tell whether a graph is recorded that has to serve other sizes.

    By ``torch.export``, ``torch.jit.trace`` or an exporter to ONNX; not by
    ``torch.compile``, which makes another graph where a size asks for it.
    """
    # torch 2.6 has no is_exporting(), and bakes in what depends on sizes.
    exporting = getattr(torch.compiler, 'is_exporting', bool)
    return torch.jit.is_tracing() or exporting()


def is_transformed() -> bool:
    """Tell whether torch.func (vmap, grad, jvp) or forward mode is active.

    What has no rule for them has to give way to what has.
    """
    if torch.compiler.is_compiling():
        return False
    active = torch._C._are_functorch_transforms_active()
    return active or is_forward_mode()


def can_overwrite() -> bool:
    """Tell whether a tensor that one has just made may become another.

    Not where a gradient, a graph or a transform still looks at it.
    """
    return not (torch.is_grad_enabled() or is_traced() or is_transformed())


def is_forward_mode() -> bool:
    """Tell whether tangents may come along with the tensors."""
    return forward_ad._current_level >= 0


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Turn autocast off where the tensor is; the meta device has none."""
    if x.is_meta:
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
