from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmea.layers._checks import (
    check_choice,
    check_flags,
    check_int,
    check_multiple,
    check_positive,
    check_rates,
)
from mmea.models.backbones.dynamic_backbone import DynamicBackbone
from mmea.registry import MODELS

from .transformer_block import CaaMTransformerBlock

__all__ = ['CaaMT2TViT']

STRIDE = 16


@MODELS.register_module()
class CaaMT2TViT(DynamicBackbone):
    """CaaM's transformer: a T2T-ViT whose last layers read twice.

    mmpretrain's T2T-ViT, in whose last layers
    :class:`CaaMTransformerBlock` takes the place of the transformer layer:
    each of them hands its mix to the next. By default it is the authors'
    T2T-ViT-7, of whose 7 layers the last 4 are of this kind.

    Args:
        causal_layers (int): How many layers, from the end; 0 for a plain
            T2T-ViT. Default: 4.
        multi (bool): Return causal, spurious and mix of the last layer, for
            :class:`CaaMClassifier`, and not the causal one alone.
            Default: False.
        embed_dims (int): Channels C of the tokens. Default: 256.
        num_layers (int): Default: 7.
        num_heads (int): Default: 4.
        feedforward_channels (int): Hidden channels of the MLPs.
            Default: 512.
        drop_path_rate (float): Stochastic depth of the last layer; it grows
            linearly from 0 in the first one. Default: 0.
        out_type (str): 'cls_token', 'featmap', 'avg_featmap' or 'raw', of
            the T2T-ViT. Default: 'cls_token'.
        init_cfg (dict | list | None): Of mmengine's BaseModule. Default: as
            in mmpretrain's configs of T2T-ViT, linear layers truncated
            normal of std 0.02.
        base (str | None): Type of the T2T-ViT. Default: None,
            'mmpretrain.T2T_ViT'.
        kwargs: Of the T2T-ViT.

    Shapes:
        (B, in_channels, H, W) of any size, padded with zeros at the right
        and at the bottom to multiples of 16, to a tuple of one tensor, or of
        three with ``multi``: (B, C), or (B, C, ceil(H / 16), ceil(W / 16))
        of 'featmap'. The norm at the end is one for all three.

    Raises:
        ValueError: ``causal_layers`` is not in 0..num_layers, or 0 with
            ``multi``.

    Source: arXiv:2108.08782; sizes from the authors' code.
    """

    default_base = 'mmpretrain.T2T_ViT'

    def __init__(
        self,
        *,
        causal_layers: int = 4,
        multi: bool = False,
        embed_dims: int = 256,
        num_layers: int = 7,
        num_heads: int = 4,
        feedforward_channels: int = 512,
        drop_path_rate: float = 0.0,
        out_type: str = 'cls_token',
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive(
            embed_dims=embed_dims,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_channels=feedforward_channels,
        )
        check_multiple(dict(num_heads=num_heads), embed_dims=embed_dims)
        check_int(0, causal_layers=causal_layers)
        check_flags(multi=multi)
        check_choice('out_type', out_type, self.OUT_TYPES)
        check_rates(drop_path_rate=drop_path_rate)
        least = 1 if multi else 0
        if not least <= causal_layers <= num_layers:
            raise ValueError(
                f'causal_layers must be in {least}..{num_layers} for '
                f'{num_layers=}, {multi=}, got {causal_layers=}'
            )
        sizes = dict(
            num_heads=num_heads, feedforward_channels=feedforward_channels
        )
        super().__init__(
            embed_dims=embed_dims,
            num_layers=num_layers,
            drop_path_rate=drop_path_rate,
            out_type=out_type,
            out_indices=[num_layers - 1],
            layer_cfgs=sizes,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.multi = multi
        rates = torch.linspace(0, drop_path_rate, num_layers).tolist()
        for i in range(num_layers - causal_layers, num_layers):
            last = 'all' if multi else 'causal'
            self.encoder[i] = _Layer(
                'mix' if i < num_layers - 1 else last,
                embed_dims,
                drop_path_rate=rates[i],
                **sizes,
            )
        for module in self.modules():
            if hasattr(module, 'scaled_dot_product_attention'):
                # mmpretrain's own keeps the N x N weights, and multiplies
                # the logits by the root of D where T2T-ViT divides them.
                width = module.input_dims // module.num_heads
                module.scaled_dot_product_attention = partial(
                    F.scaled_dot_product_attention, scale=width**-0.5
                )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        outs = super().forward(x)
        return outs[0].chunk(3) if self.multi else outs


class _Layer(CaaMTransformerBlock):
    """One tensor in, one out, as the layers of a T2T-ViT."""

    def __init__(self, gives: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gives = gives

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        causal, spurious, mix = super().forward(x)
        if self.gives == 'mix':
            return mix
        if self.gives == 'causal':
            return causal
        # Along the batch, which nothing behind the last layer mixes.
        return torch.cat([causal, spurious, mix])
