from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmea.layers._checks import check_choice, check_odd, check_positive
from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

from .dynamic_backbone import DynamicBackbone

__all__ = ['ELSASwin']

# Channels of the first stage, blocks and heads of each stage, and channels of
# a group of ELSA's convolution.
_ARCHS = {
    'tiny': (96, (2, 2, 6, 2), (3, 6, 12, 24), 4),
    'small': (96, (2, 2, 18, 2), (3, 6, 12, 24), 8),
    'base': (128, (2, 2, 18, 2), (4, 8, 16, 32), 8),
}
_ELSA_STAGES = 3


@MODELS.register_module()
class ELSASwin(DynamicBackbone):
    """A Swin transformer with ELSA in stages 1 to 3.

    The Swin of mmseg, mmdet or mmpretrain, in whose first three stages every
    block has :class:`mmea.layers.ELSA2d` in the place of its window
    attention, shifted or not; the fourth keeps its windows. Norms, MLPs,
    stochastic depth, merging and all arguments are those of the base.

    Args:
        arch (str): 'tiny', 'small' or 'base': 96, 96, 128 channels, 2, 2, 6, 2
            blocks in 'tiny', 2, 2, 18, 2 in the others, heads of 32 channels,
            groups of 4 channels in 'tiny', of 8 in the others.
            Default: 'tiny'.
        embed_dims (int | None): Channels of the first stage, in place of the
            arch's. Default: None.
        depths (Sequence[int] | None): Blocks of each stage, likewise.
        num_heads (Sequence[int] | None): Heads of each stage, likewise.
        group_width (int | None): Channels of a group, likewise.
        kernel_size (int): Window of ELSA. Default: 7.
        base (str | None): Type of the Swin. Default: None,
            'SwinTransformer'.
        kwargs: Of the Swin.

    Shapes:
        As the Swin's: (B, 3, H, W) to maps of (B, 2**i embed_dims, H', W').

    Raises:
        ValueError: An unknown ``arch`` or base, or one without the stages of
            a Swin.

    Source: arXiv:2112.12786; settings and initialisation from the authors'
    code: lam 0, gamma 1, no scale, biases, ``out_proj`` as the linear layers
    of a Swin.
    """

    default_base = 'SwinTransformer'

    def __init__(
        self,
        *,
        arch: str = 'tiny',
        embed_dims: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        group_width: int | None = None,
        kernel_size: int = 7,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice('arch', arch, _ARCHS)
        check_odd(kernel_size=kernel_size)
        own_dims, own_depths, own_heads, own_width = _ARCHS[arch]
        embed_dims = own_dims if embed_dims is None else embed_dims
        depths = own_depths if depths is None else depths
        num_heads = own_heads if num_heads is None else num_heads
        group_width = own_width if group_width is None else group_width
        check_positive(embed_dims=embed_dims, group_width=group_width)
        for name, sizes in dict(depths=depths, num_heads=num_heads).items():
            check_positive(
                **{
                    f'{name}[{i}]': s
                    for i, s in enumerate(_as_list(name, sizes))
                }
            )
        settings: dict[str, Any] = dict(
            embed_dims=embed_dims, depths=depths, num_heads=num_heads
        )
        if hasattr(self, 'arch_zoo'):  # mmpretrain takes them together
            settings = dict(arch=settings)
        super().__init__(**settings, **kwargs)
        if not hasattr(self, 'stages'):
            raise ValueError(
                f'base={base!r} has no stages in the way of SwinTransformer'
            )
        elsa = dict(
            type='mmea.ELSA2d',
            kernel_size=kernel_size,
            group_width=group_width,
            residual=False,
        )
        for i, stage in enumerate(self.stages[:_ELSA_STAGES]):
            for block in stage.blocks:
                attention = build_attention(
                    dict(elsa, num_heads=num_heads[i]), embed_dims * 2**i
                )
                block.attn = _TokenAttention(attention, block.attn.drop)


def _as_list(name: str, sizes: Sequence[int]) -> Sequence[int]:
    if not isinstance(sizes, (list, tuple)) or len(sizes) < _ELSA_STAGES:
        raise ValueError(
            f'{name} must be a sequence, a number for each stage, got '
            f'{name}={sizes!r}'
        )
    return sizes


class _TokenAttention(BaseModule):
    """A dense layer in the place of a Swin block's attention."""

    def __init__(self, attention: nn.Module, drop: nn.Module) -> None:
        super().__init__()
        self.elsa: Any = attention
        self.drop = drop
        self.init_weights()

    def init_weights(self) -> None:
        self.elsa.init_weights()
        # A linear layer, as those of the Swin.
        nn.init.trunc_normal_(self.elsa.out_proj.weight, std=0.02)
        nn.init.zeros_(self.elsa.out_proj.bias)

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        x = query.transpose(-2, -1).unflatten(
            2, tuple(hw_shape)
        )  # (B, C, H, W)
        return self.drop(self.elsa(x).flatten(2).transpose(-2, -1))
