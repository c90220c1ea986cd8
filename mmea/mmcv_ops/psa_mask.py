"""The attention mask of PSANet (Zhao et al. 2018), in plain torch."""

import torch
from torch import Tensor

__all__ = ['psamask_backward', 'psamask_forward']

COLLECT = 0  # psa_type; 1 is to distribute


def _places(
    psa_type: int,
    h: int,
    w: int,
    h_mask: int,
    w_mask: int,
    half_h: int,
    half_w: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Index pairs of an entry in the input and in the output.

    The input holds, for every pixel, a window of masks around it; the output
    a whole map of them. What reaches beyond the map is left out.
    """
    ys, xs, i, j = torch.meshgrid(
        *(torch.arange(n, device=device) for n in (h, w, h_mask, w_mask)),
        indexing='ij',
    )
    to_y, to_x = ys + i - half_h, xs + j - half_w
    inside = (to_y >= 0) & (to_y < h) & (to_x >= 0) & (to_x < w)
    source = ((i * w_mask + j) * h * w + ys * w + xs)[inside]
    here, there = (ys * w + xs)[inside], (to_y * w + to_x)[inside]
    if psa_type == COLLECT:
        here, there = there, here
    return source, here * h * w + there


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``output``, zeros so far.

    Args:
        input (Tensor): (B, h_mask * w_mask, H, W).
        output (Tensor): (B, H * W, H, W).
        psa_type (int): 0 collect, 1 distribute.
    """
    geometry = (h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    source, target = _places(psa_type, *geometry, input.device)
    output.flatten(1)[:, target] = input.flatten(1)[:, source]


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``grad_input``, zeros so far; the rest as in the forward pass."""
    geometry = (h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    source, target = _places(psa_type, *geometry, grad_output.device)
    grad_input.flatten(1)[:, source] = grad_output.flatten(1)[:, target]
