from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmea.layers._checks import (
    check_choice,
    check_config,
    check_flags,
    check_indices,
    check_int,
    check_positive,
    check_rates,
)
from mmea.layers._over_tokens import is_asked
from mmea.models.build_attention import (
    build_attention,
    check_attention,
    takes_argument,
)
from mmea.registry import MODELS

from .volo_blocks import ClassBlock, MapBlock, PatchStem, init_linear, pad
from .volo_settings import BY_STRIDE, NUM_STAGES, check_arch, check_stages

__all__ = ['VOLO']

OUT_TYPES = ('featmap', 'cls_token', 'raw')
STRIDE = 16
_NUM_CLASS_BLOCKS = 2
_SELF_ATTENTION = dict(type='mmea.SelfAttention2d', qkv_bias=False)
#: What a member has here other than by itself: that of its authors' block.
_SETTINGS = {'ELSA2d': dict(kernel_size=5, lam=1, qkv_bias=False)}


@MODELS.register_module()
class VOLO(BaseModule):
    """VOLO: local attention at stride 8, then self-attention at stride 16.

    Three convolutions and a patch of 4 x 4 make tokens of stride 8. The
    blocks of stage 0 have outlook attention, or any member of the family; a
    convolution halves the map, a position embedding is added, and stages 1 to
    3 have self-attention. For classification a class token follows, which
    reads all tokens in two blocks more.

    Args:
        arch (str | dict): 'd1' to 'd5', or a dict of ``num_layers`` (4
            numbers, one for each stage), ``embed_dims``, ``num_heads``,
            ``feedforward_channels`` (2 numbers each, for stride 8 and 16)
            and ``stem_channels``. Default: 'd1'.
        attention (dict | None): Config of the attention in stage 0. Its
            ``num_heads`` is the arch's, where it takes one; ``mmea.ELSA2d``
            has ``kernel_size=5, lam=1, qkv_bias=False``, which makes
            ELSA-VOLO; what the config names comes first. None leaves MLPs
            alone there. Default: ``dict(type='mmea.OutlookAttention2d')``.
        img_size (int | tuple[int, int]): Height and width that the position
            embedding is made for. It is resized (bicubic) for images of
            another size, so keep that of the checkpoint. Default: 224.
        in_channels (int): Channels of the image. Default: 3.
        drop_path_rate (float): Stochastic depth of the last block; it grows
            linearly from 0 in the first one. Blocks of stage 0 count, but
            have none, as in the authors' code. Default: 0.
        out_indices (Sequence[int] | None): Stages, 0 to 3, whose maps are
            returned, for 'featmap' alone. Those after the last of them are
            not run, and are frozen. Default: None, (0, 3).
        out_type (str): 'featmap' for maps, 'cls_token' for the class token,
            'raw' for it and all others, as :class:`VOLOHead` reads them.
            Default: 'featmap', without the class token's part.
        frozen_stages (int): The stem (0) and this many stages are not
            trained; -1: none. Default: -1.
        norm_cfg (dict): Of the stem. Default: ``dict(type='BN')``.
        norm_eval (bool): Keep the statistics of batch norms. Default: False.
        with_cp (bool): Recompute each block in the backward pass instead of
            keeping its activations. Default: False.
        init_cfg (dict | list | None): Of mmengine's BaseModule, over the
            published initialisation. Default: None.

    Shapes:
        (B, in_channels, H, W) of any size to a tuple: maps (B, C, ceil(H /
        8), ceil(W / 8)) of stage 0 and (B, C, ceil(H / 16), ceil(W / 16)) of
        the others, the last stage's normalised; or one tensor, (B, C) or (B,
        1 + N, C), normalised.

    Raises:
        ValueError: Unknown ``arch`` or ``out_type``, a size below 1, or
            ``out_indices`` out of range or of no map.

    Source: arXiv:2106.13112; sizes and initialisation from the authors' code.
    With ELSA arXiv:2112.12786, whose code has no VOLO: its block in the place
    of each of stage 0 is a reading of it.
    """

    def __init__(
        self,
        arch: str | dict = 'd1',
        *,
        attention: dict | None = dict(type='mmea.OutlookAttention2d'),
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] | None = None,
        out_type: str = 'featmap',
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN'),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = check_arch(arch)
        pair = check_indices(img_size, 'img_size')
        pair = pair * 2 if isinstance(img_size, int) else pair
        if len(pair) != 2:
            raise ValueError(
                f'img_size must be an int or (H, W), got {img_size=}'
            )
        check_positive(
            in_channels=in_channels,
            **{f'img_size[{i}]': size for i, size in enumerate(pair)},
        )
        check_rates(drop_path_rate=drop_path_rate)
        check_choice('out_type', out_type, OUT_TYPES)
        check_int(-1, frozen_stages=frozen_stages)
        check_config(norm_cfg=norm_cfg)
        check_flags(norm_eval=norm_eval, with_cp=with_cp)
        depths = sizes['num_layers']
        self.out_type = out_type
        self.out_indices = check_stages(out_indices, out_type)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        first, width = sizes['embed_dims']
        self.stem = PatchStem(
            in_channels, sizes['stem_channels'], first, norm_cfg
        )
        self.downsample = nn.Conv2d(first, width, 2, stride=2)
        self.grid = tuple(-(-size // STRIDE) for size in pair)
        self.pos_embed = nn.Parameter(torch.empty(1, *self.grid, width))
        early, late = zip(*(sizes[key] for key in BY_STRIDE))
        self.stages: Any = nn.ModuleList()
        total = sum(depths)
        rates = [drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        for i, depth in enumerate(depths):
            start = sum(depths[:i])
            self.stages.append(
                nn.Sequential(
                    *(
                        _block(_SELF_ATTENTION, rate, *late)
                        if i
                        else _block(attention, 0.0, *early)
                        for rate in rates[start : start + depth]
                    )
                )
            )
        if out_type != 'featmap':
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.class_blocks = nn.ModuleList(
                ClassBlock(*late) for _ in range(_NUM_CLASS_BLOCKS)
            )
        self.norm = nn.LayerNorm(width)
        self.reset_parameters()
        self._freeze_unused()
        self._freeze_stages()

    def reset_parameters(self) -> None:
        self.stem.reset_parameters()
        self.downsample.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for i, stage in enumerate(self.stages):
            # Which of their 1x1 convolutions are linear layers there.
            names = ('out_proj', 'qkv_proj') if i else ('out_proj',)
            for block in stage:
                if block.attn is not None:
                    block.attn.init_weights()
                for name in names:
                    conv = getattr(block.attn, name, None)
                    if isinstance(conv, nn.Conv2d):
                        init_linear(conv)
        for name in ('pos_embed', 'cls_token'):
            if hasattr(self, name):
                nn.init.trunc_normal_(getattr(self, name), std=0.02)

    def init_weights(self) -> None:
        # A second call must not undo what init_cfg has loaded.
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x).movedim(1, 3)  # (B, H, W, C)
        outs = []
        for i in range(self.out_indices[-1] + 1):
            if i == 1:
                x = self.downsample(pad(x.movedim(3, 1), 2)).movedim(1, 3)
                x = x + self._positions(x.shape[1:3]).to(x.dtype)
            for block in self.stages[i]:
                x = self._run(block, x)
            if i in self.out_indices and self.out_type == 'featmap':
                out = self.norm(x) if i == NUM_STAGES - 1 else x
                outs.append(out.movedim(3, 1).contiguous())
        if self.out_type == 'featmap':
            return tuple(outs)
        token = self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype)
        x = torch.cat([token, x.flatten(1, 2)], dim=1)
        for block in self.class_blocks:
            x = self._run(block, x)
        x = self.norm(x)
        return (x[:, 0] if self.out_type == 'cls_token' else x,)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled() and not is_asked(module):
            return checkpoint(module, x, use_reentrant=False)
        return module(x)

    def _positions(self, grid: Any) -> Tensor:
        """Position embedding (1, h, w, C) of a grid."""
        # A tracer's size is no number, and resizing to the same changes none.
        if isinstance(grid[0], int) and tuple(grid) == self.grid:
            return self.pos_embed
        full = torch.promote_types(self.pos_embed.dtype, torch.float32)
        table = self.pos_embed.to(full).movedim(3, 1)
        table = F.interpolate(table, tuple(grid), mode='bicubic')
        return table.movedim(1, 3)

    def train(self, mode: bool = True) -> 'VOLO':
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_unused(self) -> None:
        """Or DDP would wait for gradients of what is not run."""
        last = self.out_indices[-1]
        self.stages[last + 1 :].requires_grad_(False)
        if last < NUM_STAGES - 1:
            self.norm.requires_grad_(False)
        if last < 1:
            self.downsample.requires_grad_(False)
            self.pos_embed.requires_grad_(False)

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        parts = [self.stem, *self.stages[: self.frozen_stages]]
        if self.frozen_stages > 1:
            parts.append(self.downsample)
            self.pos_embed.requires_grad_(False)
        for part in parts:
            part.eval().requires_grad_(False)


def _block(
    attention: dict | None,
    drop_path_rate: float,
    embed_dims: int,
    num_heads: int,
    feedforward_channels: int,
) -> MapBlock:
    layer = None
    check_attention(attention)
    if attention is not None:
        kind = attention.get('type')
        name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
        known = _SETTINGS.get(name, {})
        attention = dict(known, **attention)
        if takes_argument(attention, 'num_heads'):
            attention.setdefault('num_heads', num_heads)
        layer = build_attention(dict(attention, residual=False), embed_dims)
    return MapBlock(embed_dims, feedforward_channels, layer, drop_path_rate)
