import torch
from torch import Tensor, nn

__all__ = ['Gate']


class Gate(nn.Module):
    """Multiply by sigma, one learned number.

    Spectral norm, which has to divide by the norm of each matrix, leaves it
    alone: where a zero ``out_proj`` would be no start, a zero gate is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sigma = nn.Parameter(torch.empty(1))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.sigma)

    def forward(self, x: Tensor) -> Tensor:
        return self.sigma * x
