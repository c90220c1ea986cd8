from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['AttentionMaps']


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """What one call of a member looked at.

    A field is None where the member has no such thing.

    Args:
        layer (str): Name of the member's class.
        attention (Tensor | None): How each token reads the slots, (B, S, H,
            W), of a member with heads (B, heads, S, H, W); over the slots it
            sums to 1, less what the layer's ``eps`` takes, and is 0 in
            padding. Slots are those of a memory, the words of a dictionary,
            or the key channels of efficient attention.
        token_softmax (Tensor | None): The softmax over the tokens, of the
            same shape: where each slot lies in the image.
        keys (Tensor | None): The key memory, (S, D); after
            ``switch_to_deploy()`` with the projection folded in, of each head
            where there are heads, (heads, S, C).
        pixel (tuple[int, int] | None): Row and column of a token, and
        reads (Tensor | None): what it reads, (B, heads, H, W): its weight
            for each token. What falls beyond the border is not there.
        gate (Tensor | None): The factor of each token, (B, H, W), and
        channel_gate (Tensor | None): that of each channel, (B, C).
        mask (Tensor | None): bool (B, H, W), True = no padding.
        note (str): Why there is nothing to draw; empty where there is.
    """

    layer: str
    attention: Tensor | None = None
    token_softmax: Tensor | None = None
    keys: Tensor | None = None
    pixel: tuple[int, int] | None = None
    reads: Tensor | None = None
    gate: Tensor | None = None
    channel_gate: Tensor | None = None
    mask: Tensor | None = None
    note: str = ''

    @property
    def slots(self) -> Tensor:
        """The attention as maps (B, S, H, W), the mean of the heads.

        Raises:
            ValueError: The member has no slots.
        """
        if self.attention is None:
            raise ValueError(f'{self.layer} has no slots')
        heads = self.attention.dim() == 5
        return self.attention.mean(1) if heads else self.attention

    @property
    def shares(self) -> Tensor:
        """The share of all reading that goes to each slot, (B, S).

        The mean of the attention over the tokens that are no padding; sums
        to 1 over the slots, as the attention does.
        """
        maps = self.slots.flatten(2)
        if self.mask is None:
            return maps.mean(2)
        return maps.sum(2) / self.mask.sum((1, 2)).clamp(min=1)[:, None]

    def dead(self, threshold: float = 0.01) -> Tensor:
        """Tell which slots are hardly read, bool (B, S).

        Args:
            threshold (float): Of an even share, 1 / S; below it a slot is
                dead. Default: 0.01, one per cent.
        """
        shares = self.shares
        return shares < threshold / shares.shape[1]

    @property
    def key_similarity(self) -> Tensor | None:
        """How alike the slots are: cosines of the key memory's rows (S, S)."""
        return None if self.keys is None else _cosines(self.keys)

    @property
    def map_similarity(self) -> Tensor:
        """How alike the slots' maps are: cosines (B, S, S), 0 to 1."""
        return _cosines(self.slots.flatten(2))


def _cosines(rows: Tensor) -> Tensor:
    rows = rows.detach()
    rows = F.normalize(
        rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1
    )
    return rows @ rows.transpose(-2, -1)
