from collections.abc import Callable

from torch import Tensor, nn

from ._checks import check_positive, keep_input, make_module
from .cbam_gate2d import CBAMGate2d

__all__ = ['CaaMPair2d']


class CaaMPair2d(nn.Module):
    """CaaM's pair: what a gate lets through, and what it holds back.

    ``causal = gate(x), spurious = x - causal``. In CaaM both go on to the
    next block, and classifiers of their own tell the one from the other; by
    itself this is a gate and its complement.

    Args:
        in_channels (int): Channels C.
        gate_layer (Callable[[int], nn.Module] | None): Makes the gate from
            its width. Default: None, :class:`CBAMGate2d`.

    Raises:
        ValueError: ``in_channels`` is below 1.

    Example:
        >>> import torch
        >>> from mmea import CaaMPair2d
        >>> x = torch.randn(2, 64, 7, 5)
        >>> causal, spurious = CaaMPair2d(64)(x)
        >>> torch.allclose(causal + spurious, x)
        True

    Source: arXiv:2108.08782.
    """

    _abbr_ = 'caam_pair2d'

    def __init__(
        self,
        in_channels: int,
        *,
        gate_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels)
        self.in_channels = in_channels
        make = CBAMGate2d if gate_layer is None else gate_layer
        gate = make_module('gate_layer', make, in_channels)
        self.gate = keep_input(gate)  # of which it is subtracted

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself."""
        self.gate.init_weights()

    def forward(
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Split a map.

        Args:
            x (Tensor): (B, C, H, W).
            mask (Tensor | None): Padding mask, bool (B, H, W), True = valid,
                for a gate that takes one. Default: None.

        Returns:
            tuple[Tensor, Tensor]: Causal and spurious, (B, C, H, W) each,
            whose sum is ``x``.
        """
        causal = self.gate(x) if mask is None else self.gate(x, mask)
        return causal, x - causal
