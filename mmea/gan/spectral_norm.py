"""Matrices divided by their largest singular value."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmea.layers._checks import check_number
from mmea.ops import without_autocast

__all__ = ['SpectralNorm', 'add_spectral_norm']


class SpectralNorm(nn.Module):
    """Parametrise a weight: W / (u^T W v).

    A forward pass in training mode first takes one step of the power method,
    v = unit(W^T u), u = unit(W v), without gradient. torch's parametrisation
    takes the two in the other order and so gives other numbers; the order and
    eps here are those that GANs were published with.

    Args:
        weight (Tensor): (out, ...), read as the matrix (out, rest).
        eps (float): Below it a vector is not made longer. Default: 1e-6.

    Source: arXiv:1802.05957; order and eps as in StudioGAN.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, eps: float = 1e-6) -> None:
        super().__init__()
        check_number(0, eps=eps)
        self.eps = eps
        matrix = weight.detach().flatten(1)
        self.register_buffer('u', torch.randn_like(matrix[:, 0]))
        self.register_buffer('v', torch.zeros_like(matrix[0]))
        # In eval mode an untrained net should have its norms too; on the
        # meta device it has no numbers, and steps there are slow.
        for _ in range(0 if weight.is_meta else 15):
            self._step(matrix)

    @torch.no_grad()
    def _step(self, matrix: Tensor) -> None:
        # In place: the buffers are what DDP and an EMA know.
        self.v.copy_(F.normalize(matrix.t() @ self.u, dim=0, eps=self.eps))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        with without_autocast(weight):
            matrix = weight.flatten(1)
            if self.training:
                self._step(matrix)
            # Copies: the next forward pass may come before the backward one.
            sigma = self.u.clone() @ (matrix @ self.v.clone())
            return weight / sigma


def add_spectral_norm(model: nn.Module, eps: float = 1e-6) -> nn.Module:
    """Divide every matrix of a model by its spectral norm. In place.

    That is, every parameter of two and more dimensions: weights of
    convolutions, linear layers and embeddings, memories of an external
    attention. A module names in ``spectral_free`` those to leave out.

    Args:
        model (nn.Module): Built and initialised.
        eps (float): See :class:`SpectralNorm`. Default: 1e-6, as published.

    Returns:
        nn.Module: The model.

    Raises:
        ValueError: A matrix is zero, and cannot be divided.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmea.gan import add_spectral_norm
        >>> _ = torch.manual_seed(0)
        >>> layer = add_spectral_norm(nn.Linear(4, 3)).eval()
        >>> norm = torch.linalg.matrix_norm(layer.weight, 2)
        >>> torch.allclose(norm, torch.tensor(1.0), atol=1e-2)
        True
    """
    found = [
        (module, name, f'{path}.{name}' if path else name, param)
        for path, module in model.named_modules()
        for name, param in module.named_parameters(recurse=False)
        if param.dim() > 1 and name not in getattr(module, 'spectral_free', ())
    ]
    for module, name, full_name, param in found:
        if not param.is_meta and not param.any():
            raise ValueError(
                f'{full_name} is zero, which spectral norm cannot divide; '
                'start an attention with zero_init=False'
            )
        norm = SpectralNorm(param, eps).train(module.training)
        parametrize.register_parametrization(module, name, norm, unsafe=True)
    return model
