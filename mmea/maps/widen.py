"""What the formulas of maps share."""

import torch
from torch import Tensor

__all__ = ['heads_of', 'masked_softmax', 'widen']


def widen(x: Tensor) -> Tensor:
    """Bring half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, C, H, W) to (B, h, D, H, W), in float32 or more."""
    return widen(x).unflatten(1, (heads, -1))


def masked_softmax(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Softmax over the last dimension.

    Args:
        logits (Tensor): (B, ..., N).
        valid (Tensor | None): bool (B, N) or to be broadcast; others get 0.
    """
    if valid is None:
        return logits.softmax(-1)
    while valid.dim() < logits.dim():
        valid = valid.unsqueeze(1)
    # Finite: an image without a valid token must give no NaN.
    floor = torch.finfo(logits.dtype).min
    return logits.masked_fill(~valid, floor).softmax(-1) * valid
