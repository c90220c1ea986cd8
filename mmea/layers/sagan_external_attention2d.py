from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._checks import check_flags, check_number, check_positive
from ._gate import Gate
from .attention_block2d import AttentionBlock2d
from .external_attention2d import ExternalAttention2d

__all__ = ['SAGANExternalAttention2d']


class SAGANExternalAttention2d(ExternalAttention2d):
    """External attention in the place of SAGAN's attention, as of EAGAN.

    ``attend(x) = sigma * out_proj(A(in_proj(x)) M_v)``, A the doubly
    normalised logits of the key memory; both projections are 1x1 convolutions
    without bias.

    The paper of external attention reports such a GAN and leaves open how it
    is built; this is how it is read here, and what each knob leaves out:

    * the gate sigma of the attention that is replaced stays, so that the
      networks start without attention; :class:`ExternalAttention2d` with a
      batch norm, the dense block of the paper, has none, but a batch norm
      has no place in a discriminator of spectral norm;
    * a projection to the memories and one back, ``project``: without them
      are left the two memories of the paper's first equation;
    * spectral norm on the memories as on every other matrix,
      ``spectral_memories``: it bounds the attention's share in the
      discriminator's Lipschitz constant.

    Args:
        in_channels (int): Channels C, in and out.
        num_slots (int): Memory slots S. Default: 64, as in the paper's
            segmentation.
        project (bool): Project to the memories and back. Default: True.
        spectral_memories (bool): Whether :func:`mmea.gan.add_spectral_norm`
            counts the memories among the matrices. Default: True.
        eps (float): Of the double normalisation. Default: 1e-9.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`. It is sigma that ``zero_init`` sets to
            zero, the weight of a norm if there is one.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``key_memory`` and ``value_memory`` are
        (S, C).

    Raises:
        ValueError: A size is below 1, ``eps`` is negative, or a flag is no
            bool.

    Example:
        >>> import torch
        >>> from mmea import SAGANExternalAttention2d
        >>> layer = SAGANExternalAttention2d(64, num_slots=16)
        >>> x = torch.randn(2, 64, 8, 6)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True

    Source: arXiv:2105.02358 for the attention, arXiv:1805.08318 for the gate;
    projections as of SAGAN's attention in StudioGAN, memories as of EANet's
    code.
    """

    _abbr_ = 'sagan_external_attention2d'

    def __init__(
        self,
        in_channels: int,
        *,
        num_slots: int = 64,
        project: bool = True,
        spectral_memories: bool = True,
        eps: float = 1e-9,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        # Past ExternalAttention2d's, whose projections have a bias.
        super(ExternalAttention2d, self).__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        check_positive(num_slots=num_slots)
        check_flags(project=project, spectral_memories=spectral_memories)
        check_number(0, eps=eps)
        self.eps = eps
        self.over_tokens = True
        # The maps are small, and spectral norm forbids the other form.
        self.form = 'plain'
        self.spectral_memories = spectral_memories
        for name in ('in_proj', 'out_proj'):
            conv = nn.Conv2d(in_channels, in_channels, 1, bias=False)
            setattr(self, name, conv if project else nn.Identity())
        self.key_memory = nn.Parameter(torch.empty(num_slots, in_channels))
        self.value_memory = nn.Parameter(torch.empty(num_slots, in_channels))
        self.gate = Gate()
        self.reset_parameters()

    @property
    def spectral_free(self) -> tuple[str, ...]:
        """Names of the matrices that spectral norm is to leave alone."""
        return () if self.spectral_memories else ('key_memory', 'value_memory')

    def zero_init_module(self) -> nn.Module:
        return self.gate

    def reset_parameters(self) -> None:
        for conv in (self.in_proj, self.out_proj):
            if isinstance(conv, nn.Conv2d):
                nn.init.orthogonal_(conv.weight)
        nn.init.normal_(self.key_memory, std=(2 / self.in_channels) ** 0.5)
        with torch.no_grad():
            self.value_memory.copy_(self.key_memory)
        self.gate.reset_parameters()
        AttentionBlock2d.reset_parameters(self)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.gate(super().attend(x, mask))
