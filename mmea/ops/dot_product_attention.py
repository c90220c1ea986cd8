import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .modes import is_forward_mode

__all__ = ['dot_product_attention']


def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Call torch's kernels, by the one that has tangents where these come.

    Args:
        query (Tensor): (B, h, N, D).
        key (Tensor): (B, h, M, D).
        value (Tensor): (B, h, M, D_v).
        mask (Tensor | None): bool, to be broadcast to (B, h, N, M), True =
            takes part. Default: None.
        dropout (float): Default: 0.

    Returns:
        Tensor: (B, h, N, D_v).
    """
    args = query, key, value, mask, dropout
    if is_forward_mode():
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(*args)
    return F.scaled_dot_product_attention(*args)
