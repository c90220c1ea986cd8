"""The focal losses (Lin et al. 2017), as mmcv's CUDA kernels write them."""

import torch
from torch import Tensor

__all__ = [
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
]


def _log(p: Tensor) -> Tensor:
    # The kernels' limit, FLT_MIN, in whatever dtype.
    return p.clamp(min=torch.finfo(torch.float32).tiny).log()


def _class_weights(weight: Tensor, target: Tensor, size: int) -> Tensor:
    """Weight of each sample's class, (N,); of the background (size) 1."""
    if not weight.numel():
        return weight.new_ones(len(target))
    return torch.cat([weight, weight.new_ones(1)])[target.clamp(max=size)]


def _sigmoid_parts(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, whether positive, and the factor of each logit."""
    x = input if input.dtype == torch.float64 else input.float()
    positive = target[:, None] == torch.arange(
        x.shape[1], device=target.device
    )
    factor = torch.where(positive, alpha, 1 - alpha).to(x)
    weights = _class_weights(weight.to(x), target, x.shape[1])
    return x.sigmoid(), positive, factor * weights[:, None]


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``output`` (N, C) with the loss of every logit.

    Args:
        input (Tensor): (N, C), logits.
        target (Tensor): (N,), classes; C is the background.
        weight (Tensor): (C,), of each class; empty: 1.
        gamma (float): How little a well classified sample counts.
        alpha (float): The share of the positive ones.
    """
    p, positive, factor = _sigmoid_parts(input, target, weight, alpha)
    loss = torch.where(
        positive, (1 - p) ** gamma * _log(p), p**gamma * _log(1 - p)
    )
    output.copy_(-factor * loss)


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of each loss."""
    p, positive, factor = _sigmoid_parts(input, target, weight, alpha)
    grad = torch.where(
        positive,
        (1 - p) ** gamma * (1 - p - gamma * p * _log(p)),
        p**gamma * (gamma * (1 - p) * _log(1 - p) - p),
    )
    grad_input.copy_(-factor * grad)


def _softmax_parts(
    softmax: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of the right class and factor of each sample."""
    p = softmax if softmax.dtype == torch.float64 else softmax.float()
    right = p.gather(1, target.clamp(min=0)[:, None])[:, 0]
    weights = _class_weights(weight.to(p), target.clamp(min=0), p.shape[1])
    return p, right, alpha * weights * (target >= 0)


def softmax_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``output`` (N,) with the loss of every sample.

    Args:
        input (Tensor): (N, C), probabilities.
        target (Tensor): (N,), classes; a negative one is ignored.
        weight (Tensor): (C,), of each class; empty: 1.
        gamma (float): How little a well classified sample counts.
        alpha (float): A factor.
    """
    _, right, factor = _softmax_parts(input, target, weight, alpha)
    output.copy_(-factor * (1 - right) ** gamma * _log(right))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` (N, C): derivatives by the logits."""
    p, right, factor = _softmax_parts(input, target, weight, alpha)
    rest = 1 - right
    buff.copy_(
        factor
        * (gamma * rest ** (gamma - 1) * right * _log(right) - rest**gamma)
    )
    flag = torch.nn.functional.one_hot(target.clamp(min=0), p.shape[1])
    grad_input.copy_(buff.to(p)[:, None] * (flag - p))
