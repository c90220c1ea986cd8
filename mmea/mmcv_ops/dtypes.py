"""Which precision an op computes in."""

import torch
from torch import Tensor

__all__ = ['as_computable']


def as_computable(x: Tensor) -> Tensor:
    """Cast to float32 what torchvision has no kernel for.

    That is half precision on a CPU, and bfloat16 everywhere.
    """
    on_gpu_in_half = x.is_cuda and x.dtype == torch.float16
    if x.dtype in (torch.float32, torch.float64) or on_gpu_in_half:
        return x
    return x.float()
