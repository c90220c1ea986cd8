from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.ops import is_traced

from ._checks import check_choice, check_flags, check_positive
from .attention_block2d import AttentionBlock2d

__all__ = ['NonLocal2d']

_MODES = ('embedded_gaussian', 'gaussian', 'dot_product', 'concatenation')


class NonLocal2d(AttentionBlock2d):
    """Non-local block: every token reads all tokens, by an N x N map.

    ``attend(x) = out_proj(W value)``, with the weight of key j for token i

    * ``embedded_gaussian``: softmax over j of q_i . k_j / sqrt(C')
    * ``gaussian``: softmax over j of x_i . x_j
    * ``dot_product``: q_i . k_j / number of keys
    * ``concatenation``: relu(w_q . q_i + w_k . k_j) / number of keys

    and C' = max(C // reduction, 1). The map is formed, as published; the
    fused kernel for the same cost is in :class:`SelfAttention2d`.

    Args:
        in_channels (int): Channels C, in and out.
        reduction (int): Divides the width of the projections. Default: 2.
        mode (str): One of the four above. Default: 'embedded_gaussian'.
        use_scale (bool): Divide by sqrt(C') in mode 'embedded_gaussian'; the
            other modes have no scale. Default: True.
        sub_sample (bool): Max-pool keys and values 2 x 2, without the last
            row or column of an odd size. Default: False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``pair_weight``, w_q and w_k of mode
        'concatenation', is (2, C').

    Raises:
        ValueError: A size is below 1, or ``mode`` is unknown.

    Example:
        >>> import torch
        >>> from mmea import NonLocal2d
        >>> layer = NonLocal2d(64, mode='dot_product')
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:1711.07971; arguments, modes and initialisation as in mmcv's
    NonLocal2d.
    """

    _abbr_ = 'non_local2d'
    entry = 'value_proj'

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 2,
        mode: str = 'embedded_gaussian',
        use_scale: bool = True,
        sub_sample: bool = False,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
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
        check_choice('mode', mode, _MODES)
        check_flags(use_scale=use_scale, sub_sample=sub_sample)
        channels = max(in_channels // reduction, 1)
        self.mode = mode
        self.use_scale = use_scale
        self.sub_sample = sub_sample
        if mode != 'gaussian':
            self.query_proj = nn.Conv2d(in_channels, channels, 1)
            self.key_proj = nn.Conv2d(in_channels, channels, 1)
        if mode == 'concatenation':
            self.pair_weight = nn.Parameter(torch.empty(2, channels))
        self.value_proj = nn.Conv2d(in_channels, channels, 1)
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        module: Any
        for name, module in self.named_children():
            if name.endswith('_proj'):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # mmcv leaves these two as it draws any convolution: Kaiming, fan out.
        if self.norm is not None:
            nn.init.normal_(
                self.out_proj.weight, std=(2 / self.in_channels) ** 0.5
            )
        if self.mode == 'concatenation':
            nn.init.normal_(self.pair_weight, std=2**0.5)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = mask.unsqueeze(1)
        query = key = x
        if self.mode != 'gaussian':
            query, key = self.query_proj(x), self.key_proj(x)
        value = self.value_proj(x)
        if self.sub_sample:
            key, value = self._pool(key, mask), self._pool(value, mask)
            if mask is not None:
                mask = self._pool(mask.to(x.dtype)) > 0
        if mask is not None:
            mask = mask.flatten(2)  # (B, 1, Nk)
        value = value.flatten(2)  # (B, C', Nk)
        attn = self._weigh(query.flatten(2), key.flatten(2), mask)
        if mask is not None:
            value = value.masked_fill(~mask, 0)
        out = value @ attn.transpose(-2, -1)  # (B, C', N)
        return self.out_proj(out.unflatten(2, x.shape[2:]))

    def _pool(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return max_pool(x, mask)

    def _weigh(
        self, query: Tensor, key: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Compute the N x N map, (B, N, Nk).

        Without a softmax, invalid keys keep a weight: their values are zero.
        """
        if self.mode == 'concatenation':
            # The sum of two products is the product with the concatenation.
            rows, columns = self.pair_weight
            pairs = (rows @ query).unsqueeze(2) + (columns @ key).unsqueeze(1)
            pairs = pairs.relu()
        else:
            if self.mode == 'embedded_gaussian' and self.use_scale:
                query = query / query.shape[1] ** 0.5
            pairs = query.transpose(-2, -1) @ key
        if self.mode in ('dot_product', 'concatenation'):
            if mask is None:
                return pairs / pairs.shape[2]
            return pairs / mask.sum(2, keepdim=True).clamp(min=1)
        if mask is not None:
            # Finite: an image without a valid token must give no NaN.
            pairs = pairs.masked_fill(~mask, torch.finfo(pairs.dtype).min)
        return pairs.softmax(2)

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, mode={self.mode!r}, '
            f'use_scale={self.use_scale}, sub_sample={self.sub_sample}'
        )


def max_pool(
    x: Tensor, mask: Tensor | None = None, *, ceil: bool = False
) -> Tensor:
    """2 x 2, smaller on a smaller map; a window without valid pixels is 0.

    The last row or column of an odd size is left out or, with ``ceil``, a
    window by itself.
    """
    if mask is not None:
        x = x.masked_fill(~mask, -torch.inf)
    if is_traced():
        # Of maps of 2 x 2 and more. A tracer would take what max_pool2d()
        # checks of a size for a limit to it.
        if ceil:  # one that completes the last window, or is in none
            x = torch.cat([x, x[:, :, -1:]], 2)
            x = torch.cat([x, x[..., -1:]], 3)
        x = torch.maximum(x[:, :, :-1:2], x[:, :, 1::2])
        x = torch.maximum(x[..., :-1:2], x[..., 1::2])
    else:
        size = [min(2, size) for size in x.shape[2:]]
        x = F.max_pool2d(x, size, ceil_mode=ceil)
    return x if mask is None else x.masked_fill(x == -torch.inf, 0)
