from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._checks import check_odd, check_positive
from ._norms import masked_norm
from .attention_block2d import AttentionBlock2d

__all__ = ['CBAMGate2d']


class CBAMGate2d(AttentionBlock2d):
    """The gate of CaaM: CBAM, a number for each channel, then each token.

    ``attend(x) = x * s_c * s_t``, s_c the sigmoid of a small network on the
    mean and the maximum of each channel, s_t the sigmoid of a convolution of
    the channels' maximum and mean at each token, batch-normalised. Bare by
    default: a gate starts as no zero, so with a residual the identity at the
    start needs a norm.

    Args:
        in_channels (int): Channels C, in and out.
        reduction (int): The network has max(C // reduction, 1) hidden
            channels. Default: 16.
        kernel_size (int): Of the convolution, odd. Default: 7.
        residual (bool): Default: False.
        norm_layer, act_layer, zero_init, with_cp: See
            :class:`AttentionBlock2d`. ``with_cp`` leaves out the batch norm
            of the gate and what follows it.

    Shapes:
        (B, C, H, W) to (B, C, H, W).

    Raises:
        ValueError: A size is below 1, ``kernel_size`` is even, or a residual
            without a norm is to start as the identity.

    Example:
        >>> import torch
        >>> from mmea import CBAMGate2d
        >>> x = torch.rand(2, 64, 7, 5)
        >>> y = CBAMGate2d(64)(x)
        >>> bool(((0 < y) & (y < x)).all())  # a gate, not a residual
        True

    Source: arXiv:2108.08782 and arXiv:1807.06521; sizes and initialisation
    from CaaM's code, with a zero weight in the gate's batch norm, so that s_t
    starts as 1/2.
    """

    _abbr_ = 'cbam_gate2d'
    entry = 'channel_fc1'
    checkpoint_attend = False  # it has a batch norm

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = False,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        check_positive(reduction=reduction)
        check_odd(kernel_size=kernel_size)
        affine = getattr(self.norm, 'weight', None) is not None
        if residual and zero_init and not affine:
            raise ValueError(
                'no weight of a gate makes it zero: residual=True with '
                'zero_init=True needs a norm_layer with a weight; give one, '
                'or set zero_init=False'
            )
        hidden = max(in_channels // reduction, 1)
        self.channel_fc1 = nn.Linear(in_channels, hidden)
        self.channel_fc2 = nn.Linear(hidden, in_channels)
        self.token_conv = nn.Conv2d(
            2, 1, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.token_norm = nn.BatchNorm2d(1, momentum=0.01)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.channel_fc1.reset_parameters()
        self.channel_fc2.reset_parameters()
        nn.init.kaiming_normal_(
            self.token_conv.weight, mode='fan_out', nonlinearity='relu'
        )
        self.token_norm.reset_parameters()
        nn.init.zeros_(self.token_norm.weight)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens, channels = self.gates(x, mask)
        return x * channels * tokens

    def gates(
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute s_t, (B, 1, H, W), and s_c, (B, C, 1, 1)."""
        channels, tokens = self._checkpointed(self._two_steps, x, mask)
        if mask is None:
            gate = self.token_norm(tokens)
        else:
            gate = masked_norm(self.token_norm, tokens, mask)
        return gate.sigmoid(), channels

    def _two_steps(
        self, x: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return s_c, and s_t before its norm and sigmoid."""
        channels = self._channel_attention(x, mask)
        return channels, self._spatial_attention(x * channels)

    def _channel_attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Weigh each channel by its mean and its maximum: (B, C, 1, 1)."""
        if mask is None:
            mean, largest = x.mean((2, 3)), x.amax((2, 3))
        else:
            valid = mask.unsqueeze(1)
            number = valid.sum((2, 3)).clamp(min=1)  # (B, 1)
            # A sum that float16 might not hold.
            full = torch.promote_types(x.dtype, torch.float32)
            mean = (x.sum((2, 3), dtype=full) / number).to(x.dtype)
            largest = x.masked_fill(~valid, -torch.inf).amax((2, 3))
            largest = largest.masked_fill(largest == -torch.inf, 0)
        logits = sum(
            self.channel_fc2(self.channel_fc1(summary).relu())
            for summary in (mean, largest)
        )
        return logits.sigmoid()[:, :, None, None]

    def _spatial_attention(self, x: Tensor) -> Tensor:
        """Weigh each token by its maximum and its mean: (B, 1, H, W)."""
        summaries = [x.amax(1, keepdim=True), x.mean(1, keepdim=True)]
        return self.token_conv(torch.cat(summaries, 1))
