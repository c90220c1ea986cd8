from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmea.ops import (
    double_norm,
    external_attention,
    packed_external_attention,
)

from ._checks import (
    check_dtype,
    check_flags,
    check_number,
    check_positive,
    make_module,
)
from ._norms import masked_norm
from ._over_tokens import OverTokens

__all__ = ['OffsetAttention1d']


class OffsetAttention1d(OverTokens, nn.Module):
    """Offset attention: what the attention leaves of a point is projected.

    ``y = x + act(norm(out_proj(x - s)))``, where s is what each point reads::

        self:     E = Q^T Q,   Q = query_proj(x),   s = value_proj(x) A
        external: E = M_k x,                        s = M_v^T A

    and A is the double normalisation of the logits E, (N, N) or (S, N):
    softmax over the points that read, then L1 over the points, or slots, that
    are read. Keys are the queries: the published layer shares their weights.

    The external form is linear in N; the other forms an N x N map.

    Args:
        in_channels (int): Channels C, in and out.
        external (bool): Read two memories of S slots, not the other points.
            Default: False, as published.
        offset (bool): Project ``x - s``; False: ``s`` itself.
            Default: True.
        num_slots (int): Memory slots S, with ``external``. Default: 64.
        key_channels (int | None): Width of the queries, without
            ``external``. Default: None, ``in_channels // 4`` or 1.
        eps (float): Of the double normalisation. Default: 1e-9.
        norm_layer (Callable[[int], nn.Module] | None): Makes the norm, of
            (B, C, N). Default: ``nn.BatchNorm1d``.
        act_layer (Callable[[], nn.Module] | None): Default: ``nn.ReLU``.

    Raises:
        ValueError: A size is below 1 or ``eps`` negative; an input, a mask
            or offsets of another shape.
        TypeError: A callable that makes no module, or an input that is not in
            the dtype of the weights.

    Example:
        >>> import torch
        >>> from mmea import OffsetAttention1d
        >>> layer = OffsetAttention1d(64, external=True)
        >>> layer(torch.randn(2, 64, 500)).shape  # (B, C, N)
        torch.Size([2, 64, 500])

        Clouds of 200 and 300 points, one after the other:

        >>> offsets = torch.tensor([0, 200, 500])
        >>> layer(torch.randn(1, 64, 500), offsets=offsets).shape
        torch.Size([1, 64, 500])

    Source: arXiv:2012.09688, offset attention, its details from the authors'
    code; external attention in this place from arXiv:2105.02358, whose code
    is not published. Initialisation: torch's default of the convolutions, the
    memories as in :class:`ExternalAttention2d`. It does not start as the
    identity: a ReLU behind a norm of zeros has no gradient.
    """

    _abbr_ = 'offset_attention1d'

    def __init__(
        self,
        in_channels: int,
        *,
        external: bool = False,
        offset: bool = True,
        num_slots: int = 64,
        key_channels: int | None = None,
        eps: float = 1e-9,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm1d,
        act_layer: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_slots=num_slots)
        if key_channels is None:
            key_channels = max(1, in_channels // 4)
        check_positive(key_channels=key_channels)
        check_flags(external=external, offset=offset)
        check_number(0, eps=eps)
        self.in_channels = in_channels
        # Otherwise the points read one another, and no memory.
        self.external = self.over_tokens = external
        self.offset = offset
        self.eps = eps
        if external:
            size = num_slots, in_channels
            self.key_memory = nn.Parameter(torch.empty(size))
            self.value_memory = nn.Parameter(torch.empty(size))
        else:
            self.query_proj = nn.Conv1d(
                in_channels, key_channels, 1, bias=False
            )
            self.value_proj = nn.Conv1d(in_channels, in_channels, 1)
        self.out_proj = nn.Conv1d(in_channels, in_channels, 1)
        self.norm = make_module('norm_layer', norm_layer, in_channels)
        self.act = make_module('act_layer', act_layer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            reset = getattr(module, 'reset_parameters', None)
            if reset is not None:
                reset()
        if self.external:
            std = (2 / self.in_channels) ** 0.5
            nn.init.normal_(self.key_memory, std=std)
            with torch.no_grad():
                self.value_memory.copy_(self.key_memory)

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself."""
        self.reset_parameters()

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
    ) -> Tensor:
        """Read, subtract, project, add.

        Args:
            x (Tensor): (B, C, N).
            mask (Tensor | None): bool (B, N), True = valid. Other points are
                not read, enter no softmax and no statistics of the norm;
                there y = x. Default: None, all valid.
            offsets (Tensor | None): int (B + 1), of clouds that lie packed in
                x (1, C, N), with ``external``; cloud i has the points
                ``offsets[i]:offsets[i + 1]``. See
                :func:`mmea.ops.packed_external_attention`. Default: None,
                one cloud in each row of x.

        Returns:
            Tensor: (B, C, N).
        """
        self._check_input(x, mask)
        if offsets is not None:
            self._check_packed(x, mask)
        points = x
        if mask is not None:
            # Padding may hold anything, and 0 times NaN in the gradient of a
            # weight would be NaN.
            points = x.masked_fill(~mask.unsqueeze(1), 0)
        out = self.read(points, mask, offsets)
        out = self.out_proj(points - out if self.offset else out)
        if self.norm is not None:
            if mask is None:
                out = self.norm(out)
            else:
                out = masked_norm(self.norm, out, mask)
        if self.act is not None:
            out = self.act(out)
        if mask is not None:
            out = out.masked_fill(~mask.unsqueeze(1), 0)
        return x + out

    def read(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> Tensor:
        """Compute s, what each point reads, (B, C, N).

        Args:
            x (Tensor): (B, C, N).
            mask (Tensor | None): bool (B, N), True = valid; x is zero
                elsewhere.
            offsets (Tensor | None): See :meth:`forward`.
        """
        if offsets is not None:
            out = packed_external_attention(
                x[0].t(),
                offsets,
                self.key_memory,
                self.value_memory,
                eps=self.eps,
            )
            return out.t().unsqueeze(0)
        if self.external:
            return external_attention(
                x,
                self.key_memory,
                self.value_memory,
                eps=self.eps,
                mask=mask,
                stats=self.stats_source(),
            )
        query = self.query_proj(x)
        logits = query.transpose(1, 2) @ query  # (B, N read, N that read)
        attn = double_norm(logits, eps=self.eps, mask=mask, slot_mask=mask)
        return self.value_proj(x) @ attn

    def _check_packed(self, x: Tensor, mask: Tensor | None) -> None:
        if not self.external:
            reason = 'need external=True: each point would read all points'
        elif not isinstance(self.norm, _BatchNorm | None):
            reason = f'need a batch norm or none, {self.norm} would mix clouds'
        elif mask is not None:
            reason = 'take no mask: leave the padding out'
        elif x.shape[0] != 1:
            reason = f'need x to be (1, C, N), got {tuple(x.shape)}'
        elif self.stats_source() is not None:
            reason = 'take no statistics of mmea.scale: use a mask'
        else:
            return
        raise ValueError(f'offsets {reason}')

    def _check_input(self, x: Tensor, mask: Tensor | None) -> None:
        if torch.jit.is_tracing():
            return  # where a size is no number
        if x.dim() != 3 or x.shape[1] != self.in_channels:
            raise ValueError(
                'x must be (B, C, N) with C = in_channels = '
                f'{self.in_channels}, got {tuple(x.shape)}'
            )
        check_dtype('x', x, self.out_proj)
        want = (x.shape[0], x.shape[2])
        if mask is not None and (mask.dtype, mask.shape) != (torch.bool, want):
            raise ValueError(
                f'mask must be bool {want} (B, N), True = valid, got '
                f'{mask.dtype} {tuple(mask.shape)}'
            )

    def extra_repr(self) -> str:
        text = f'{self.in_channels}, offset={self.offset}, external='
        if self.external:
            return f'{text}True, num_slots={len(self.key_memory)}'
        return f'{text}False, key_channels={self.query_proj.out_channels}'
