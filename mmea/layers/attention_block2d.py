from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmea.ops import is_traced, is_transformed

from ._checks import check_dtype, check_flags, check_positive, make_module
from ._norms import masked_norm

__all__ = ['AttentionBlock2d']

T = TypeVar('T')


class AttentionBlock2d(nn.Module):
    """The outer form of every dense attention layer.

    ``y = act(x + norm(attend(x)))``. A system implements :meth:`attend`;
    all the rest is here.

    Args:
        in_channels (int): Channels C, in and, without ``out_channels``, out.
        out_channels (int | None): Of a system that takes it. Another width
            than ``in_channels`` needs ``residual=False``. Default: None, as
            ``in_channels``.
        stride (int): Of a system that takes it, likewise. Default: 1.
        norm_layer (Callable[[int], nn.Module] | None): Makes the norm of the
            attention's output from its width. Default: None, no norm.
        act_layer (Callable[[], nn.Module] | None): Makes the activation after
            the residual. Default: None.
        residual (bool): Add the input. ``False`` gives the bare operator.
            Default: True.
        zero_init (bool): Start as the identity (up to ``act_layer``), with a
            zero weight in the norm or, without an affine norm, in the
            system's last layer. Only with the residual: a bare operator that
            starts at zero would not learn. Default: True.
        with_cp (bool): Recompute :meth:`attend` in the backward pass instead
            of keeping its activations. The norm stays outside, so that its
            running statistics are updated once. Default: False.

    Raises:
        ValueError: An argument is out of its range, a residual does not fit,
            or an input or a mask does not.
        TypeError: A callable that is none or makes no module, or an input
            that is not in the dtype of the weights.

    A subclass sets ``out_proj``, its last layer (or overrides
    :meth:`zero_init_module`), and calls :meth:`reset_parameters` at the end
    of its constructor.
    """

    _abbr_ = 'attention_block2d'
    #: Name of a part in whose weights' dtype the input has to be.
    entry = 'query_proj'
    #: Whether ``with_cp`` recomputes :meth:`attend` as a whole. A system with
    #: running statistics inside says False, for they would be updated twice,
    #: and hands the rest of itself to :meth:`_checkpointed`.
    checkpoint_attend = True

    def __init__(
        self,
        in_channels: int,
        *,
        out_channels: int | None = None,
        stride: int = 1,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if out_channels is None:
            out_channels = in_channels
        check_positive(
            in_channels=in_channels, out_channels=out_channels, stride=stride
        )
        check_flags(residual=residual, zero_init=zero_init, with_cp=with_cp)
        if residual and (out_channels, stride) != (in_channels, 1):
            raise ValueError(
                f'residual=True needs out_channels={in_channels} and '
                f'stride=1, as the input, got {out_channels=} and {stride=}; '
                'set residual=False'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.residual = residual
        self.zero_init = zero_init
        self.with_cp = with_cp
        self.norm = make_module('norm_layer', norm_layer, out_channels)
        self.act = make_module('act_layer', act_layer)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the system itself, output projection included, no residual.

        Args:
            x (Tensor): (B, C, H, W).
            mask (Tensor | None): bool (B, H, W), True = valid; x is zero
                elsewhere.

        Returns:
            Tensor: (B, C_out, H_out, W_out); the shape of x for most systems.
            Finite, where invalid; it is not used.
        """
        raise NotImplementedError

    def zero_init_module(self) -> nn.Module:
        """Return the module whose zero weights make :meth:`attend` zero."""
        return self.out_proj  # type: ignore[return-value]

    def find_mask(self, x: Tensor) -> Tensor | None:
        """Return the mask of a call without one; the registered form's."""
        return None

    def output_mask(self, mask: Tensor) -> Tensor:
        """Mark the valid outputs; a system with a stride overrides it."""
        return mask

    def reset_parameters(self) -> None:
        """Initialise anew; a subclass does its own part first."""
        reset = getattr(self.norm, 'reset_parameters', None)
        if reset is not None:
            reset()
        if self.zero_init and self.residual:
            self.zero_output()

    def zero_output(self) -> None:
        """Set to zero what makes the normalised attention zero."""
        last = self.norm
        if last is None or getattr(last, 'weight', None) is None:
            last = self.zero_init_module()
        for param in last.parameters():
            nn.init.zeros_(param)

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself.

        Its Kaiming pass over all convolutions has just undone ours, the zero
        output included.
        """
        self.reset_parameters()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend, normalise, add, activate.

        Args:
            x (Tensor): (B, C, H, W).
            mask (Tensor | None): Padding mask, bool (B, H, W), True = valid.
                Invalid tokens enter no softmax over tokens and no statistics
                of the norm; there y = act(x). Default: None, all valid.

        Returns:
            Tensor: (B, C_out, H_out, W_out).
        """
        self._check_input(x, mask)
        return self._forward(x, mask, self.attend)

    def _forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        attend: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        tokens = x
        if mask is not None:
            # Padding may hold anything, and 0 times NaN in the gradient of a
            # weight would be NaN.
            tokens = x.masked_fill(~mask.unsqueeze(1), 0)
        if self.checkpoint_attend:
            out = self._checkpointed(attend, tokens, mask)
        else:
            out = attend(tokens, mask)
        if mask is not None:
            mask = self.output_mask(mask)
        if self.norm is not None:
            if mask is None:
                out = self.norm(out)
            else:
                out = masked_norm(self.norm, out, mask)
        if mask is not None:
            out = out.masked_fill(~mask.unsqueeze(1), 0)
        if self.residual:
            out = x + out
        return out if self.act is None else self.act(out)

    def _checkpointed(self, function: Callable[..., T], *args: object) -> T:
        """Call; with ``with_cp``, again in the backward pass."""
        if self._checkpoints():
            return checkpoint(function, *args, use_reentrant=False)
        return function(*args)

    def _checkpoints(self) -> bool:
        if not self.with_cp or not torch.is_grad_enabled():
            return False
        # torch.func has no checkpointing, and a graph to be kept needs none.
        return not (is_traced() or is_transformed())

    def _check_input(self, x: Tensor, mask: Tensor | None) -> None:
        """Refuse what would end as an error of torch, or as other numbers."""
        if torch.jit.is_tracing():
            return  # where a size is no number
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                'x must be (B, C, H, W) with C = in_channels = '
                f'{self.in_channels}, got {tuple(x.shape)}'
            )
        check_dtype('x', x, getattr(self, self.entry, None))
        if mask is not None:
            self._check_mask(x, mask)

    def _check_mask(self, x: Tensor, mask: Tensor) -> None:
        want = (x.shape[0], *x.shape[2:])
        if mask.dtype != torch.bool or mask.shape != want:
            raise ValueError(
                f'mask must be bool {want} (B, H, W), True = valid, got '
                f'{mask.dtype} {tuple(mask.shape)}'
            )

    def extra_repr(self) -> str:
        channels = f'{self.in_channels}'
        if (self.out_channels, self.stride) != (self.in_channels, 1):
            channels += f', {self.out_channels}, stride={self.stride}'
        return (
            f'{channels}, residual={self.residual}, zero_init={self.zero_init}'
        )
