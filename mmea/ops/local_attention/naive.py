from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modes import is_traced

__all__ = ['neighbours', 'plain_local_logits', 'plain_local_sum', 'slide']


def neighbours(x: Tensor, kernel_size: int) -> Tensor:
    """View the kernel_size x kernel_size window around each pixel.

    Args:
        x (Tensor): (..., H, W).
        kernel_size (int): K, odd.

    Returns:
        Tensor: (..., H, W, K, K), zero outside the map. A view of one padded
        copy of ``x``: what is computed from it may be K^2 times as large.
    """
    x = F.pad(x, 4 * (kernel_size // 2,))
    return slide(slide(x, -2, kernel_size), -2, kernel_size)


def slide(x: Tensor, dim: int, kernel_size: int) -> Tensor:
    """View a window at each step: ``x.unfold(dim, kernel_size, 1)``."""
    if not is_traced():
        return x.unfold(dim, kernel_size, 1)
    # Tracers take what unfold() checks of a size for a limit to it.
    steps = x.shape[dim] - kernel_size + 1
    behind: Any = (slice(None),) * (-1 - dim)
    return torch.stack(
        [x[(..., slice(i, i + steps), *behind)] for i in range(kernel_size)],
        -1,
    )


def plain_local_logits(query: Tensor, key: Tensor, kernel_size: int) -> Tensor:
    """Compute :func:`local_logits` as it reads, D K^2 numbers per pixel."""
    windows = neighbours(key, kernel_size)  # (B, h, D, H, W, K, K)
    return (query[..., None, None] * windows).sum(2)


def plain_local_sum(attn: Tensor, value: Tensor) -> Tensor:
    """Compute :func:`local_sum` as it reads, D K^2 numbers per pixel."""
    windows = neighbours(value, attn.shape[-1])
    return (attn.unsqueeze(2) * windows).sum((-2, -1))
