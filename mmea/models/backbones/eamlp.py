from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmea.layers._checks import (
    check_choice,
    check_flags,
    check_indices,
    check_positive,
    check_rates,
)
from mmea.layers._over_tokens import is_asked
from mmea.models.registered_layers import MultiheadExternalAttention
from mmea.registry import MODELS

from .conv_stem import ConvStem
from .tokens_to_token import STRIDE, TokenLayer, TokensToToken

__all__ = ['EAMLP']

ARCHS = {
    '7': dict(
        embed_dims=256, num_layers=7, num_heads=4, feedforward_channels=512
    ),
    '14': dict(
        embed_dims=384, num_layers=14, num_heads=6, feedforward_channels=1152
    ),
    '19': dict(
        embed_dims=448, num_layers=19, num_heads=7, feedforward_channels=1344
    ),
}
OUT_TYPES = ('featmap', 'cls_token', 'avg_featmap')
STEMS = ('tokens_to_token', 'convolutions')


@MODELS.register_module()
class EAMLP(BaseModule):
    """A transformer of stride 16 with external attention in every layer.

    Tokens-to-token module, class token, frozen sinusoid position embedding,
    pre-norm layers of multi-head external attention and an MLP, norm. No two
    tokens are compared, so time and memory are linear in their number.

    Args:
        arch (str | dict): '7', '14' or '19', or a dict of ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
            Default: '7'.
        img_size (int | tuple[int, int]): Height and width that the position
            embedding is made for. It is resized (bicubic, the class token's
            apart) for images of another size, so keep that of the
            checkpoint. Default: 224.
        in_channels (int): Channels of the image. Default: 3.
        stem (str): What makes the tokens: 'tokens_to_token', as published, or
            'convolutions', :class:`ConvStem`, which learns much faster from
            few images. Default: 'tokens_to_token'.
        token_dims (int): See :class:`TokensToToken`; of 'convolutions' the
            channels of the second map. Default: 64.
        token_drop_rate (float): Its dropout: 0.1 in the published models,
            the "performer" ones; 0 in the "transformer" ones. Unused by
            'convolutions'. Default: 0.1.
        expansion (int): See :class:`mmea.layers.MultiheadExternalAttention`.
            Default: 4, as published.
        drop_rate (float): Dropout of the tokens with their positions, and of
            the outputs of attention and MLP. Default: 0.
        drop_path_rate (float): Stochastic depth of the last layer; it grows
            linearly from 0 in the first one. Default: 0.
        out_indices (int | Sequence[int]): Layers whose tokens are returned,
            negative ones count from the end. Those after the last of them are
            not run, and are frozen. Default: -1.
        out_type (str): 'featmap' for maps, 'cls_token' for the class token,
            'avg_featmap' for the mean of the others. Default: 'featmap'.
        with_cp (bool): Recompute each layer in the backward pass instead of
            keeping its activations. Default: False.
        init_cfg (dict | list | None): Of mmengine's BaseModule, over the
            published initialisation. Default: None.

    Shapes:
        (B, in_channels, H, W), of any size, to a tuple with one tensor for
        each of ``out_indices``, in ascending order: (B, embed_dims,
        ceil(H / 16), ceil(W / 16)) or (B, embed_dims). The last layer's are
        normalised.

    Raises:
        ValueError: Unknown ``arch`` or ``out_type``, a size below 1, or an
            index that is out of range or given twice.

    Source: arXiv:2105.02358, EAMLP; sizes, eps, dropout and initialisation
    from the authors' code.
    """

    def __init__(
        self,
        arch: str | dict = '7',
        *,
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        stem: str = 'tokens_to_token',
        token_dims: int = 64,
        token_drop_rate: float = 0.1,
        expansion: int = 4,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'featmap',
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = ARCHS.get(arch) if isinstance(arch, str) else arch
        if not isinstance(sizes, dict) or sizes.keys() != ARCHS['7'].keys():
            raise ValueError(
                f'arch must be one of {", ".join(ARCHS)} or a dict of '
                f'{", ".join(ARCHS["7"])}, got {arch=}'
            )
        check_choice('out_type', out_type, OUT_TYPES)
        check_choice('stem', stem, STEMS)
        pair = check_indices(img_size, 'img_size')
        pair = pair * 2 if isinstance(img_size, int) else pair
        if len(pair) != 2:
            raise ValueError(
                f'img_size must be an int or (H, W), got {img_size=}'
            )
        values = (*pair, *sizes.values())
        if any(type(size) is not int or size < 1 for size in values):
            raise ValueError(
                f'sizes must be ints and must be >= 1, got {img_size=}, '
                f'{arch=}'
            )
        check_positive(
            in_channels=in_channels, token_dims=token_dims, expansion=expansion
        )
        check_rates(
            token_drop_rate=token_drop_rate,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        check_flags(with_cp=with_cp)
        self.embed_dims = sizes['embed_dims']
        self.out_type = out_type
        self.with_cp = with_cp
        widths = dict(in_channels=in_channels, embed_dims=self.embed_dims)
        self.tokens_to_token = (
            ConvStem(**widths, hidden_channels=token_dims)
            if stem == 'convolutions'
            else TokensToToken(
                **widths, token_dims=token_dims, drop_rate=token_drop_rate
            )
        )
        self.grid = tuple(-(-size // STRIDE) for size in pair)
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.embed_dims))
        number = 1 + self.grid[0] * self.grid[1]
        self.register_buffer('pos_embed', _sinusoid(number, self.embed_dims))
        self.drop = nn.Dropout(drop_rate)
        depth = sizes['num_layers']
        self.blocks = nn.ModuleList(
            _Block(
                self.embed_dims,
                sizes['num_heads'],
                sizes['feedforward_channels'],
                expansion=expansion,
                drop_rate=drop_rate,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(self.embed_dims)
        self.out_indices = _check_indices(out_indices, depth)
        if self.out_indices[-1] < depth - 1:
            # DDP would wait for gradients of what is not run.
            self.blocks[self.out_indices[-1] + 1 :].requires_grad_(False)
            self.norm.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(
                module, (ConvStem, MultiheadExternalAttention, TokenLayer)
            ):
                module.reset_parameters()
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def init_weights(self) -> None:
        # A second call must not undo what init_cfg has loaded.
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, grid = self._run(self.tokens_to_token, x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.drop(x + self._positions(grid).to(x.dtype))
        outs = []
        for i in range(self.out_indices[-1] + 1):
            x = self._run(self.blocks[i], x)
            if i == len(self.blocks) - 1:
                x = self.norm(x)
            if i in self.out_indices:
                outs.append(self._form(x, grid))
        return tuple(outs)

    def _form(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.out_type == 'featmap':
            return x[:, 1:].transpose(-2, -1).unflatten(2, grid)
        return x[:, 0] if self.out_type == 'cls_token' else x[:, 1:].mean(1)

    def _run(self, module: nn.Module, x: Tensor) -> Any:
        if self.with_cp and torch.is_grad_enabled() and not is_asked(module):
            return checkpoint(module, x, use_reentrant=False)
        return module(x)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding (1, 1 + h w, C) of a grid."""
        # A tracer's size is no number, and resizing to the same changes none.
        if isinstance(grid[0], int) and grid == self.grid:
            return self.pos_embed
        full = torch.promote_types(self.pos_embed.dtype, torch.float32)
        first, rest = self.pos_embed.to(full).tensor_split((1,), dim=1)
        rest = F.interpolate(
            rest.transpose(-2, -1).unflatten(2, self.grid),
            grid,
            mode='bicubic',
        )
        return torch.cat([first, rest.flatten(2).transpose(-2, -1)], dim=1)


class _Block(nn.Module):
    """Pre-norm layer of multi-head external attention and an MLP."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        *,
        expansion: int,
        drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = MultiheadExternalAttention(
            embed_dims,
            num_heads,
            expansion=expansion,
            proj_drop=drop_rate,
            dropout_layer=drop_path,
            batch_first=True,
        )
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            ffn_drop=drop_rate,
            dropout_layer=drop_path,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(self.norm1(x), identity=x)
        return self.ffn(self.norm2(x), identity=x)


def _sinusoid(positions: int, channels: int) -> Tensor:
    """(1, positions, channels): sines in even columns, cosines in odd."""
    column = torch.arange(channels)
    rates = 10000.0 ** (-2 * (column // 2).double() / channels)
    angles = torch.arange(positions)[:, None] * rates
    table = torch.where(column % 2 == 0, angles.sin(), angles.cos())
    return table.unsqueeze(0).float()


def _check_indices(out_indices: int | Sequence[int], depth: int) -> list[int]:
    """Ascending, and none negative."""
    if not isinstance(out_indices, Sequence):
        out_indices = [out_indices]
    check_indices(out_indices)
    if any(not -depth <= i < depth for i in out_indices):
        raise ValueError(
            f'out_indices must be in {-depth}..{depth - 1}, got '
            f'{out_indices=} for {depth} layers'
        )
    found = sorted({i % depth for i in out_indices})
    if not found or len(found) < len(out_indices):
        raise ValueError(
            'out_indices must name one layer or more, each once, got '
            f'{out_indices=}'
        )
    return found
