from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmea.ops import external_attention

from .attention_block2d import AttentionBlock2d, check_positive

__all__ = ['ExternalAttention2d']


class ExternalAttention2d(AttentionBlock2d):
    """External attention: every token reads S memory slots shared by all.

    ``attend(x) = out_proj(A(in_proj(x)) M_v)``, A the doubly normalised
    logits of the key memory. Cost is linear in the number of tokens.

    With ``norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU, zero_init=False``
    this is the published block of EANet, initialisation included.

    Args:
        in_channels (int): Channels C, in and out.
        num_slots (int): Memory slots S. Default: 64.
        channels (int | None): Width of the tokens that meet the memories.
            Default: None, as ``in_channels``.
        eps (float): Of the double normalisation. Default: 1e-9, as published.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``key_memory`` and ``value_memory`` are
        (S, channels).

    Raises:
        ValueError: A size is below 1, or ``eps`` is negative.

    Source: arXiv:2105.02358; block, initialisation and eps from the authors'
    segmentation code.
    """

    _abbr_ = 'external_attention2d'
    supports_mask = True

    def __init__(
        self,
        in_channels: int,
        *,
        num_slots: int = 64,
        channels: int | None = None,
        eps: float = 1e-9,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ):
        super().__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        channels = in_channels if channels is None else channels
        check_positive(num_slots=num_slots, channels=channels)
        if eps < 0:
            raise ValueError(f'eps must be >= 0, got {eps=}')
        self.eps = eps
        self.in_proj = nn.Conv2d(in_channels, channels, 1)
        self.key_memory = nn.Parameter(torch.empty(num_slots, channels))
        self.value_memory = nn.Parameter(torch.empty(num_slots, channels))
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self):
        for conv in (self.in_proj, self.out_proj):
            conv.reset_parameters()  # the biases keep torch's default
            nn.init.normal_(conv.weight, std=(2 / conv.out_channels) ** 0.5)
        # The published memories start equal, as keys and values of
        # self-attention come from one map; each is trained by itself.
        nn.init.normal_(
            self.key_memory, std=(2 / self.key_memory.shape[1]) ** 0.5
        )
        with torch.no_grad():
            self.value_memory.copy_(self.key_memory)
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = self.in_proj(x).flatten(2)  # (B, c, N)
        out = external_attention(
            tokens,
            self.key_memory,
            self.value_memory,
            eps=self.eps,
            mask=None if mask is None else mask.flatten(1),
        )
        return self.out_proj(out.unflatten(2, x.shape[2:]))

    def extra_repr(self) -> str:
        slots, channels = self.key_memory.shape
        return f'{super().extra_repr()}, num_slots={slots}, {channels=}'
