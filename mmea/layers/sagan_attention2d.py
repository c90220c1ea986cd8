from collections.abc import Callable

from torch import Tensor, nn

from ._gate import Gate
from .attention_block2d import AttentionBlock2d
from .non_local2d import NonLocal2d, max_pool

__all__ = ['SAGANAttention2d']


class SAGANAttention2d(NonLocal2d):
    """The attention of SAGAN: a gated non-local block with pooled keys.

    ``attend(x) = sigma * out_proj(A value)``, A_ij the softmax over j of
    q_i . k_j, without a scale; keys and values are max-pooled 2 x 2, the last
    row or column of an odd size by itself (the published code takes even
    sizes only). All four projections are 1x1 convolutions without bias:
    queries and keys of width max(C // 8, 1), values of max(C // 2, 1).

    Args:
        in_channels (int): Channels C, in and out.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`. It is sigma that ``zero_init`` sets to
            zero, the weight of a norm if there is one.

    Shapes:
        (B, C, H, W) to (B, C, H, W).

    Raises:
        ValueError: A size is below 1.

    Example:
        >>> import torch
        >>> from mmea import SAGANAttention2d
        >>> layer = SAGANAttention2d(64)
        >>> x = torch.randn(2, 64, 8, 6)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:1805.08318; widths, pooling and orthogonal initialisation
    as in StudioGAN.
    """

    _abbr_ = 'sagan_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        # Past NonLocal2d's, whose projections have other widths.
        super(NonLocal2d, self).__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        self.mode = 'embedded_gaussian'
        self.use_scale = False
        self.sub_sample = True
        narrow, half = max(in_channels // 8, 1), max(in_channels // 2, 1)
        self.query_proj = nn.Conv2d(in_channels, narrow, 1, bias=False)
        self.key_proj = nn.Conv2d(in_channels, narrow, 1, bias=False)
        self.value_proj = nn.Conv2d(in_channels, half, 1, bias=False)
        self.out_proj = nn.Conv2d(half, in_channels, 1, bias=False)
        self.gate = Gate()
        self.reset_parameters()

    def zero_init_module(self) -> nn.Module:
        return self.gate

    def reset_parameters(self) -> None:
        for name in ('query_proj', 'key_proj', 'value_proj', 'out_proj'):
            nn.init.orthogonal_(getattr(self, name).weight)
        self.gate.reset_parameters()
        AttentionBlock2d.reset_parameters(self)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.gate(super().attend(x, mask))

    def _pool(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return max_pool(x, mask, ceil=True)

    def extra_repr(self) -> str:
        return AttentionBlock2d.extra_repr(self)
